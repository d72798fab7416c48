"""What a call that dies in `crash_points` leaves in the process of the test: nothing held, nothing open."""

from __future__ import annotations

import sqlite3
import sys
import threading
from contextlib import closing, contextmanager

from retrysafe.testing import crash_points
from support.crashes import found, lines, protected


def test_what_the_function_catches_and_cleans_up_after_its_death_is_told():
    sent = []

    @protected
    def send(order):
        try:
            sent.append(order)
            order.upper()
        finally:
            sent.append("cleaned up")
        return "sent"

    report = crash_points(send, "o1", effects=sent)
    assert [point.source for point in report.points if point.ran_on] == ["sent.append(order)", "order.upper()"]
    assert "At 2 of the points, a `finally`, `except` or `with` of the function itself ran on" in report.notes[0]


def test_a_lock_is_free_again_wherever_its_holder_died():
    lock, sent = threading.Lock(), []

    @protected
    def send(order):
        with lock:
            sent.append(order)
        with lock:
            return len(order)

    report = crash_points(send, "o1", effects=sent)
    assert [point.source for point in report.points if point.what == "before the end of this block"] == [
        "with lock:"
    ] * 2
    assert not lock.locked()


def test_a_transaction_is_rolled_back_wherever_its_owner_died():
    """An effect inside of it is not: the classic mistake, which no retry can tell from a first try."""
    sent = []
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute("CREATE TABLE sent (name TEXT PRIMARY KEY)")

        def was_sent(order):
            return bool(database.execute("SELECT 1 FROM sent WHERE name = ?", [order]).fetchall())

        def reset():
            with database:
                database.execute("DELETE FROM sent")

        @protected
        def send(order):
            if not was_sent(order):
                with database:
                    database.execute("INSERT INTO sent VALUES (?)", [order])
                    sent.append(order)
            return "sent"

        report = crash_points(send, "o1", effects=sent, before_each=reset)
    assert found(report, "doubled") == [("with database:", "before the end of this block")]


@contextmanager
def left(log):
    try:
        yield
    except BaseException as error:
        log.append(type(error).__name__)
        raise


class Left:
    """A manager for `async with`."""

    def __init__(self, log):
        self.log = log

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, trace):
        self.log.append(None if kind is None else kind.__name__)


def test_a_manager_that_only_its_with_knows_is_left_by_the_death():
    log, sent = [], []

    @protected
    def send(order):
        with left(log):
            sent.append(order)

    crash_points(send, "o1", effects=sent)
    assert log == ["Killed"] * 2, "before the line inside, and before the end of the block"


def test_an_asynchronous_manager_is_left_too():
    log, sent = [], []

    @protected
    async def send(order):
        async with Left(log):
            sent.append(order)

    report = crash_points(send, "o1", effects=sent)
    assert log.count("Killed") == 2
    assert found(report, "doubled")[0] == ("async with Left(log):", "before the end of this block")


def test_a_file_that_only_its_with_knows_is_closed(tmp_path):
    ledger = tmp_path / "ledger"
    ledger.touch()

    @protected
    def send(order):
        with ledger.open("a") as file:
            file.write(f"{order}\n")
        return "sent"

    report = crash_points(send, "o1", effects=lambda: ledger.read_text().split())
    assert lines(report, "doubled") == ['with ledger.open("a") as file:', 'return "sent"']


def test_a_death_that_the_function_swallows_is_one_all_the_same():
    sent = []

    @protected
    def send(order):
        try:
            sent.append(order)
            sent.append("sure?")
        except BaseException:  # noqa: BLE001  # what a careless function does
            return "nothing happened"
        return "sent"

    report = crash_points(send, "o1", effects=sent)
    assert lines(report, "doubled") == ['sent.append("sure?")', 'return "sent"']


def test_tracing_of_whoever_runs_the_test_is_given_back():
    def tracer(frame, event, arg):
        return None

    def profiler(frame, event, arg):
        return None

    sent = []

    @protected
    def send(order):
        sent.append(order)

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(tracer)
    sys.setprofile(profiler)
    try:
        crash_points(send, "o1", effects=sent)
        kept = sys.gettrace(), sys.getprofile()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    assert kept == (tracer, profiler)
