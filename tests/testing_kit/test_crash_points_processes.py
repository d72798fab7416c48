"""`crash_points(processes=True)`: each call in a process of its own, which dies by SIGKILL; effects are in a file."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from retrysafe import current_execution
from retrysafe.testing import crash_points
from support.crashes import found, lines, protected


class File:
    """A ledger outside of the process, a line for each effect."""

    def __init__(self, path):
        self.path = path
        self.path.write_text("")

    def add(self, text):
        with self.path.open("a") as file:
            file.write(f"{text}\n")

    def read(self):
        return self.path.read_text().splitlines()


@pytest.fixture
def ledger(tmp_path):
    return File(tmp_path / "ledger")


def test_a_charge_without_a_key_doubles_at_the_same_lines_as_in_one_process(ledger):
    @protected
    def charge(order):
        ledger.add(order)
        return os.getpid() > 0

    report = crash_points(charge, "o1", effects=ledger.read, processes=True)
    assert found(report, "doubled") == [
        ("return os.getpid() > 0", "before this line"),
        ("return os.getpid() > 0", "before the answer was stored"),
    ]
    assert [point.what for point in report.points if point.kind == "store"] == [
        "before the claim was stored",
        "after the claim was stored; the reply is lost",
        "before the answer was stored",
        "after the answer was stored; the reply is lost",
    ]


def test_nothing_of_the_function_runs_after_its_death(ledger):
    @protected
    def charge(order):
        try:
            ledger.add(order)
            order.upper()
        finally:
            ledger.add("cleaned up")

    def when_killed(processes):
        report = crash_points(charge, "o1", effects=ledger.read, processes=processes)
        point = next(point for point in report.points if point.source == "order.upper()")
        return point.when_killed, report.notes != ()

    assert when_killed(processes=True) == ({"o1": 1}, False)
    assert when_killed(processes=False) == ({"o1": 1, "cleaned up": 1}, True)


def test_what_stands_in_a_buffer_is_lost_with_the_process(ledger):
    @protected
    def charge(order):
        file = ledger.path.open("a", buffering=4096)
        file.write(f"{order}\n")
        if current_execution().attempt == 1:
            file.flush()
        return "paid"

    report = crash_points(charge, "o1", effects=ledger.read, processes=True)
    assert lines(report, "doubled") == ['return "paid"']


def test_coroutines_are_killed_at_each_wait(ledger):
    @protected
    async def charge(order):
        await asyncio.sleep(0)
        ledger.add(order)
        await asyncio.sleep(0.001)
        return "paid"

    report = crash_points(charge, "o1", effects=ledger.read, processes=True)
    assert [(point.source, point.verdict) for point in report.points if point.kind == "await"] == [
        ("await asyncio.sleep(0)", "ok"),
        ("await asyncio.sleep(0)", "ok"),
        ("await asyncio.sleep(0.001)", "doubled"),
        ("await asyncio.sleep(0.001)", "doubled"),
    ]


def test_an_answer_that_cannot_pass_between_processes_is_compared_by_how_it_looks(ledger):
    class Local:
        def __repr__(self):
            return "Local()"

    @protected
    def charge(order):
        ledger.add(order)

    def worker(order):
        charge(order)
        return Local()

    assert crash_points(worker, "o1", effects=ledger.read, processes=True).points[0].verdict == "ok"


def test_effects_kept_in_the_memory_of_the_process_are_refused_as_no_effects():
    sent = []
    with pytest.raises(ValueError, match="made no effect"):
        crash_points(protected(sent.append), "o1", effects=sent, processes=True)


def test_a_process_that_cannot_even_begin_tells_why(ledger):
    class Unusual(BaseException):
        pass

    @protected
    def charge(order):
        raise Unusual(order)

    with pytest.raises(RuntimeError, match="Unusual: o1"):
        crash_points(charge, "o1", effects=ledger.read, processes=True)


def test_a_process_that_ends_by_itself_is_told_of(ledger):
    @protected
    def charge(order):
        os._exit(3)

    with pytest.raises(RuntimeError, match="ended without telling how"):
        crash_points(charge, "o1", effects=ledger.read, processes=True)


def test_other_threads_of_the_test_do_no_harm(ledger):
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        crash_points(protected(ledger.add), "o1", effects=ledger.read, processes=True)
    finally:
        over.set()
        thread.join()
