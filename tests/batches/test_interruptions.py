"""Batches that are interrupted: what has run is recorded, what has not is free, and the caller is interrupted too."""

from __future__ import annotations

import contextvars
import gc
import subprocess
import sys
import textwrap
import threading

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer
from retrysafe._batch import drivers
from retrysafe.heartbeat import heart
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from retrysafe.testing import FailingLayer
from support.batches import orders
from support.interrupted_batches import over_many, recorded

# --- sync -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_in_an_item_keeps_what_has_run_and_frees_the_rest(error):
    layer, runs = MemoryPersistenceLayer(), []

    def work(order):
        runs.append(order["id"])
        if order["id"] == 3:
            raise error
        return order["id"]

    with pytest.raises(error):
        over_many(work, layer)(orders(1, 2, 3, 4, 1))
    assert runs == [1, 2, 3]
    assert recorded(layer) == ["1", "2"]


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_interruption_while_keys_are_claimed_frees_them_all_and_nothing_runs(applied, number):
    inner = MemoryPersistenceLayer()
    layer, runs = FailingLayer(inner), []
    layer.fail("put", call=number, applied=applied, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        over_many(runs.append, layer, None)(orders(1, 2, 3))
    assert (runs, len(inner)) == ([], 0)


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("number", [1, 2])
def test_an_interruption_while_outcomes_are_recorded_records_them_first(applied, number):
    inner = MemoryPersistenceLayer()
    layer = FailingLayer(inner)
    layer.fail("update", call=number, applied=applied, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        over_many(lambda order: order["id"], layer)(orders(1, 2))
    assert recorded(inner) == ["1", "2"]


def test_after_an_interruption_while_an_outcome_is_recorded_no_further_item_runs():
    inner, runs = MemoryPersistenceLayer(), []
    layer = FailingLayer(inner)
    layer.fail("update", call=1, error=KeyboardInterrupt)

    def work(order):
        runs.append(order["id"])
        return order["id"]

    with pytest.raises(KeyboardInterrupt):
        over_many(work, layer, record_after_seconds=0)(orders(1, 2))
    assert runs == [1]
    assert recorded(inner) == ["1"]


def test_an_interruption_of_the_pause_before_an_outcome_is_tried_again_records_it_first(monkeypatch):
    inner = MemoryPersistenceLayer()
    layer = FailingLayer(inner)
    layer.fail("update", call=1)

    def interrupted(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(drivers, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        over_many(lambda order: order["id"], layer, record_after_seconds=0)(orders(1, 2))
    assert recorded(inner) == ["1"]


def test_an_interruption_while_keys_are_freed_frees_them_all_the_same():
    inner = MemoryPersistenceLayer()
    layer = FailingLayer(inner)
    layer.fail("delete", call=1, error=KeyboardInterrupt)

    def work(order):
        if order["id"] == 2:
            raise ValueError
        return order["id"]

    with pytest.raises(KeyboardInterrupt):
        over_many(work, layer)(orders(1, 2, 3))
    assert recorded(inner) == ["1", "3"]


class Struck(MemoryPersistenceLayer):
    """The first outcomes that it is to record together are interrupted."""

    def __init__(self):
        super().__init__()
        self.times, self.recording = 0, threading.Condition()

    def _for_each(self, operation, arguments):
        if operation == "update":
            with self.recording:
                self.times += 1
                self.recording.notify_all()
            if self.times == 1:
                raise KeyboardInterrupt
        return super()._for_each(operation, arguments)

    def wait_until_it_records(self):
        with self.recording:
            times = self.times
            assert self.recording.wait_for(lambda: self.times > times, 5)


def test_an_interruption_of_many_outcomes_at_once_is_one_interruption():
    layer, runs = Struck(), []

    def work(order):
        runs.append(str(order["id"]))
        if order["id"] > 5:  # the six before it are recorded together, while this one runs
            layer.wait_until_it_records()
        return order["id"]

    with pytest.raises(KeyboardInterrupt):
        over_many(work, layer, record_after_seconds=0.01)(orders(*range(20)))
    assert recorded(layer) == sorted(runs)
    assert len(runs) < 20


def test_a_listener_that_exits_ends_the_batch_and_leaves_no_key_behind():
    layer, heard = MemoryPersistenceLayer(), []

    def leave(event):
        heard.append(event)
        if len(heard) == 3:
            raise SystemExit

    with pytest.raises(SystemExit):
        over_many(lambda order: order["id"], layer, IdempotencyConfig(event_hook=leave))(orders(1, 2, 3, 4))
    assert "running" not in recorded(layer)


class Torn(KeyboardInterrupt):
    """An interruption that strikes at a chosen call of one of our functions."""


def torn_at(number, batch):
    """Run the batch; at the so-manieth call of a function of ours the interruption strikes. Whether it did."""
    calls = 0

    def strike(frame, event, arg):
        nonlocal calls
        if event == "call" and "/retrysafe/" in frame.f_code.co_filename:
            calls += 1
            if calls == number:
                sys.setprofile(None)
                raise Torn

    # A run that is torn at its very end stays the current one of its context.
    context = contextvars.copy_context()
    gc.disable()  # what a batch before left to it would be counted too, and an interruption of its end be lost
    sys.setprofile(strike)
    try:
        context.run(batch)
    except Torn:
        return True
    finally:
        sys.setprofile(None)
        gc.enable()
    return False


def lingering():
    """The threads of batches that do not end."""
    threads = [thread for thread in threading.enumerate() if thread.name == "retrysafe-batch"]
    if threads:
        gc.collect()  # an interruption and what it tore hold each other
    for thread in threads:
        thread.join(5)
    return [thread for thread in threads if thread.is_alive()]


@pytest.fixture
def small_heap():
    """What other tests have loaded is not looked through at each of some hundred collections."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("small_heap")
@pytest.mark.parametrize("blocking", [False, True])
def test_an_interruption_anywhere_loses_no_answer_and_leaves_no_key_behind(blocking):
    """But at the one place where nobody can know: between the end of a function and what is told of it."""
    number, unknown = 0, 0
    while True:
        number += 1
        layer, runs = MemoryPersistenceLayer(), []
        layer.blocking = blocking  # if it is, a thread records the first two while the others are claimed

        def work(order, runs=runs):
            runs.append(str(order["id"]))
            return order["id"]

        charge = over_many(work, layer, record_after_seconds=3600, claimed_at_once=2)
        if not torn_at(number, lambda charge=charge: charge(orders(1, 2, 3, 1))):
            break
        assert "running" not in recorded(layer), number
        assert set(recorded(layer)) <= set(runs), number
        assert not lingering(), number
        unknown += len(runs) - len(recorded(layer))
        assert len(runs) - len(recorded(layer)) <= 1, number
    assert number > 100
    gc.collect()
    assert not heart._alive()
    assert unknown <= 15  # five of our calls for each of three items


# --- the death of the process -----------------------------------------------------------------------------------------


DYING = """
    import os, sys
    from retrysafe import IdempotencyConfig, idempotent_batch
    from retrysafe.persistence.sqlite import SQLitePersistenceLayer

    config = IdempotencyConfig(event_key_jmespath="id", in_progress_expires_after_seconds=0.2)
    layer = SQLitePersistenceLayer(sys.argv[1], synchronous="off")

    @idempotent_batch(
        persistence_store=layer, config=config, key_prefix="charge", record_after_seconds=float(sys.argv[2])
    )
    def charge(order):
        print(order["id"], flush=True)
        if order["id"] == 4:
            os._exit(9)
        return order["id"]

    charge([{"id": number} for number in range(6)])
"""


@pytest.mark.parametrize(("record_after", "lost"), [(0, 0), (3600, 4)])
def test_after_the_death_of_the_process_only_what_was_not_recorded_runs_again(tmp_path, record_after, lost):
    path = tmp_path / "records.db"
    program = [sys.executable, "-c", textwrap.dedent(DYING), str(path), str(record_after)]
    died = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (died.returncode, died.stdout.split()) == (9, ["0", "1", "2", "3", "4"])
    runs = []
    with SQLitePersistenceLayer(path) as layer:
        config = IdempotencyConfig(event_key_jmespath="id", on_in_progress="wait")
        result = over_many(lambda order: runs.append(order["id"]), layer, config)(orders(*range(6)))
    assert all(each.ok for each in result)
    assert sorted(runs) == list(range(4 - lost, 6))
