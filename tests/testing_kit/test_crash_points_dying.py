"""How a process dies in `crash_points`: around each operation of the store, nothing done afterwards, and time moved."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from contextlib import closing, contextmanager

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    DataRecord,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    current_execution,
    drivers,
    idempotent,
    idempotent_block,
    idempotent_function,
)
from retrysafe.base import IdempotencyHandler
from retrysafe.exceptions import IdempotencyLeaseLostError
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from retrysafe.testing import FailingLayer, ManualClock, crash_points
from retrysafe.testing._crash.layers import LifeLayer
from retrysafe.testing._crash.life import Killed, Life
from support.crashes import found, lines, protected, untouchable

AROUND_A_CALL = [
    "before the claim was stored",
    "after the claim was stored; the reply is lost",
    "before the answer was stored",
    "after the answer was stored; the reply is lost",
]


def moments(report):
    return [point.what for point in report.points if point.kind == "store"]


# --- the store ----------------------------------------------------------------------------------------------------


def test_each_operation_of_the_store_is_a_point_before_it_and_one_after_it():
    sent = []

    @protected
    def send(order):
        sent.append(order)
        return current_execution().still_owner()

    assert moments(crash_points(send, "o1", effects=sent)) == [
        *AROUND_A_CALL[:2],
        "before the record was read",
        "after the record was read; the reply is lost",
        *AROUND_A_CALL[2:],
    ]


def test_each_point_is_tried_once_and_numbered_in_the_order_of_an_undisturbed_call():
    sent = []

    @protected
    def send(order):
        sent.append(order)

    report = crash_points(send, "o1", effects=sent)
    assert [point.number for point in report.points] == list(range(report.total + 1))
    assert report.total == 5, "two around the claim, one line, two around the answer"


class Worlds:
    """Makes a new counting layer for each point, and keeps them all."""

    def __init__(self):
        self.layers = []

    def make_layer(self, clock):
        self.layers.append(FailingLayer(MemoryPersistenceLayer(clock=clock)))
        return self.layers[-1]


def test_a_dead_call_neither_completes_nor_releases_nor_asks_the_store_anything():
    worlds, sent = Worlds(), []

    @protected
    def send(order):
        sent.append(order)
        return "sent"

    report = crash_points(send, "o1", effects=sent, make_layer=worlds.make_layer)
    calls = {point.number: layer.calls for point, layer in zip(report.points, worlds.layers[2:], strict=True)}
    at_a_line = {"get": 0, "put": 4, "update": 1, "delete": 0, "renew": 0}
    assert calls[3] == calls[4] == at_a_line, "the dead one's claim; a claim refused and taken over; a duplicate"
    assert {layer.calls["delete"] for layer in worlds.layers} == {0}
    assert calls[1]["put"] == 2, "the dead one's claim did not get through"
    assert calls[6] == at_a_line | {"put": 3}, "the answer is stored, so the retry is a duplicate like the next"


def test_the_heartbeat_of_a_dead_call_is_refused_as_one_whose_lease_is_lost():
    life = Life(MemoryPersistenceLayer(), kill_at=0)
    layer = LifeLayer(life)
    claim = DataRecord("key", "INPROGRESS", owner="dead")
    with pytest.raises(Killed):
        layer._put_record(claim)
    with pytest.raises(IdempotencyLeaseLostError, match="its process is dead"):
        layer._renew_record(claim)


def test_a_dead_call_tells_no_event():
    events, sent = [], []

    @protected(event_hook=lambda event: events.append(event.name))
    def send(order):
        sent.append(order)
        return "sent"

    crash_points(send, "o1", effects=sent)
    assert "released" not in events
    assert {"claimed", "taken over", "completed", "replayed"} == set(events)


def test_the_function_s_own_layer_is_never_asked_and_works_as_before_afterwards():
    layer, sent = FailingLayer(MemoryPersistenceLayer()), []

    @idempotent_function(persistence_store=layer, key_prefix="send")
    def send(order):
        sent.append(order)
        return "sent"

    crash_points(send, "o1", effects=sent)
    assert set(layer.calls.values()) == {0}
    assert send("o1") == "sent"
    assert layer.calls["put"] == layer.calls["update"] == 1


# --- what is detoured ---------------------------------------------------------------------------------------------


ROADS = {"run": drivers.run, "run_async": drivers.run_async}


def roads():
    """Every module of ours that has a driver at hand, and the driver that it has."""
    return {
        (name, road)
        for name, module in sys.modules.items()
        for road, driver in ROADS.items()
        if name.startswith("retrysafe.") and vars(module).get(road) is driver
    }


def test_every_front_door_leads_to_the_test_s_store_and_back_to_its_own_afterwards():
    before, inside = roads(), []

    @protected
    def send(order):
        inside.append(roads())
        return "sent"

    crash_points(send, "o1", effects=lambda: len(inside))
    assert before == roads()
    assert {name for name, _ in before} >= {"retrysafe.drivers", "retrysafe.idempotency", "retrysafe.handler"}
    assert {name for name, _ in inside[0]} == {"retrysafe.testing._crash.detour"}


def test_the_doors_are_given_back_where_the_test_fails():
    before = roads()
    with pytest.raises(ValueError, match="no effect"):
        crash_points(protected(lambda order: order), "o1", effects=[])
    assert roads() == before


def test_blocks_and_handlers_made_on_the_way_keep_their_records_in_the_test_s_store():
    sent = []

    def send(order):
        sent.append(order)
        return "sent"

    def worker(order):
        with idempotent_block(order, key_prefix="block", persistence_store=untouchable()) as block:
            if block.is_first:
                sent.append("block")
                block.answer = "done"
        return IdempotencyHandler(send, order, IdempotencyConfig(), untouchable(), function_args=[order]).handle()

    report = crash_points(worker, "o1", effects=sent)
    assert moments(report) == [*AROUND_A_CALL, *AROUND_A_CALL]
    assert lines(report, "doubled") == [
        'block.answer = "done"',
        'with idempotent_block(order, key_prefix="block", persistence_store=untouchable()) as block:',
        'return "sent"',
    ]


def test_threads_that_the_function_starts_go_their_usual_way():
    layer, sent = FailingLayer(MemoryPersistenceLayer()), []

    @idempotent_function(persistence_store=layer, key_prefix="inner")
    def inner(order):
        return "sent"

    @protected
    def send(order):
        thread = threading.Thread(target=inner, args=[order])
        thread.start()
        thread.join()
        sent.append(order)

    crash_points(send, "o1", effects=sent)
    assert layer.calls["put"] > 0


def test_a_handler_and_the_functions_inside_it_each_have_their_points():
    class Context:
        def get_remaining_time_in_millis(self):
            return 3000

    charged, sent = [], []

    @protected
    def charge(order):
        charged.append(order)

    @idempotent(persistence_store=untouchable(), key_prefix="handler")
    def handler(event, context):
        charge(event["order"])
        sent.append(event["order"])
        return {"statusCode": 201}

    report = crash_points(handler, {"order": "o1"}, Context(), effects=lambda: [*charged, *(f"mail {o}" for o in sent)])
    assert moments(report) == [*AROUND_A_CALL[:2], *AROUND_A_CALL, *AROUND_A_CALL[2:]]
    assert found(report, "doubled") == [
        ("charged.append(order)", "before the answer was stored"),
        ('return {"statusCode": 201}', "before this line"),
        ('return {"statusCode": 201}', "before the answer was stored"),
    ]


# --- time ---------------------------------------------------------------------------------------------------------


def test_leases_lapse_and_retries_get_through_without_waiting(monkeypatch):
    sent = []

    @protected(in_progress_expires_after_seconds=3600, on_in_progress="wait")
    def send(order):
        sent.append(order)

    monkeypatch.setattr(time, "sleep", pytest.fail)
    report = crash_points(send, "o1", effects=sent)
    assert {point.retries for point in report.points if point.kind != "none"} == {1}


def test_a_window_shorter_than_the_lease_does_not_end_while_the_lease_lapses():
    sent = []

    @protected(in_progress_expires_after_seconds=3600, expires_after_seconds=1)
    def send(order):
        sent.append(order)

    report = crash_points(send, "o1", effects=sent)
    assert report.points[-1].what == AROUND_A_CALL[3]
    assert report.points[-1].verdict == "ok"


def test_a_layer_of_one_s_own_can_be_used_and_is_closed(tmp_path):
    files, sent = [], []

    class Closing(SQLitePersistenceLayer):
        def close(self):
            super().close()
            files.remove(self)

    def make_layer(clock):
        files.append(Closing(tmp_path / f"{len(sent)}.db", clock=clock))
        return files[-1]

    @protected
    def send(order):
        sent.append(order)
        return "sent"

    report = crash_points(send, "o1", effects=sent, make_layer=make_layer)
    assert lines(report, "doubled") == ['return "sent"']
    assert files == []


def test_a_layer_with_a_clock_of_its_own_is_told_how_time_passes():
    clock, passed, sent = ManualClock(), [], []

    @protected
    def send(order):
        sent.append(order)

    def advance(seconds):
        passed.append(seconds)
        clock.advance(seconds)

    crash_points(send, "o1", effects=sent, make_layer=lambda _: MemoryPersistenceLayer(clock=clock), advance=advance)
    assert set(passed) == {30.001}


def test_a_layer_whose_leases_nobody_can_let_lapse_is_refused():
    with pytest.raises(ValueError, match="hand the clock"):
        crash_points(protected(lambda order: order), "o1", effects=[], make_layer=lambda _: MemoryPersistenceLayer())


def test_an_asynchronous_layer_does_not_serve_a_synchronous_function():
    with pytest.raises(ValueError, match="make_layer made an asynchronous layer"):
        crash_points(
            protected(lambda order: order),
            "o1",
            effects=[],
            make_layer=lambda clock: AsyncMemoryPersistenceLayer(clock=clock),
        )


# --- in the process of the test -------------------------------------------------------------------------------------


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
