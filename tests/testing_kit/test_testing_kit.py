"""The kit for tests as a whole: its clock, that it needs no test runner, and what it refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, IdempotencyConfig, MemoryPersistenceLayer, idempotent_function
from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.testing import AsyncFailingLayer, FailingLayer, ManualClock, crash_points, idempotency_disabled
from support.refusals import awaited, function, store

# --- the clock --------------------------------------------------------------------------------------------------------


def test_the_clock_stands_still_until_it_is_moved():
    clock = ManualClock()
    assert (clock.now_ms(), clock.now_ms()) == (1_893_456_000_000, 1_893_456_000_000)
    clock.advance(1.5)
    assert clock.now_ms() == 1_893_456_001_500
    clock.advance(-2)
    assert clock.now_ms() == 1_893_455_999_500
    assert ManualClock(7).now_ms() == 7


def test_moving_the_clock_ends_a_window():
    clock = ManualClock()
    runs = []

    @idempotent_function(
        persistence_store=MemoryPersistenceLayer(clock=clock),
        config=IdempotencyConfig(expires_after_seconds=60),
        key_prefix="charge",
    )
    def charge(order):
        runs.append(order)
        return len(runs)

    assert [charge("order"), charge("order")] == [1, 1]
    clock.advance(61)
    assert [charge("order"), charge("order")] == [2, 2]


# --- what it needs ----------------------------------------------------------------------------------------------------


def test_the_testing_kit_needs_no_test_runner():
    program = "import sys, retrysafe.testing; print(sorted({'pytest', '_pytest', 'hypothesis'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer", [None, MemoryPersistenceLayer, AsyncMemoryPersistenceLayer()], ids=["None", "class", "async"]
)
def test_a_failing_layer_takes_a_synchronous_layer_alone(layer):
    with pytest.raises(IdempotencyConfigError, match="layer must be an object of a BasePersistenceLayer"):
        FailingLayer(layer)


@pytest.mark.parametrize(
    "layer", [None, AsyncMemoryPersistenceLayer, MemoryPersistenceLayer()], ids=["None", "class", "sync"]
)
def test_an_asynchronous_failing_layer_takes_an_asynchronous_layer_alone(layer):
    with pytest.raises(IdempotencyConfigError, match="layer must be an object of a AsyncBasePersistenceLayer"):
        AsyncFailingLayer(layer)


@pytest.mark.parametrize(
    ("told", "arguments"),
    [
        ("operation=", {"operation": []}),
        ("call=", {"operation": "put", "call": "first"}),
        ("call=", {"operation": "put", "call": True}),
        ("error=", {"operation": "put", "error": 5}),
        ("error=", {"operation": "put", "error": int}),
    ],
)
def test_a_failure_that_cannot_be_is_refused_when_it_is_asked_for(told, arguments):
    with pytest.raises(ValueError, match=told):
        FailingLayer(store).fail(**arguments)


@pytest.mark.parametrize("start", ["2030-01-01", None, 1.5, float("nan"), True], ids=repr)
def test_a_clock_that_shows_no_time_is_refused(start):
    with pytest.raises(IdempotencyConfigError, match="start_ms="):
        ManualClock(start)


def test_effects_that_nothing_would_await_are_refused():
    with pytest.raises(ValueError, match=r"effects=.*plain function"):
        crash_points(function, 1, effects=awaited)


@pytest.mark.parametrize("given", [None, 5, "function", []], ids=repr)
def test_idempotency_is_switched_off_for_functions(given):
    with pytest.raises(TypeError, match=r"idempotency_disabled\(\) decorates functions"):
        idempotency_disabled()(given)


@pytest.mark.parametrize(
    "seconds", ["1", None, True, float("nan"), float("inf"), 10**400], ids=lambda value: repr(value)[:9]
)
def test_a_clock_is_moved_by_a_number_of_seconds(seconds):
    clock = ManualClock()
    with pytest.raises(IdempotencyConfigError, match="seconds="):
        clock.advance(seconds)
    assert clock.now_ms() == ManualClock().now_ms()


@pytest.mark.parametrize(
    "option",
    [
        {"max_points": "all"},
        {"max_points": float("nan")},
        {"retries": None},
        {"before_each": 5},
        {"on_kill": []},
        {"make_layer": MemoryPersistenceLayer()},
        {"advance": 3.0},
        {"seed": "x"},
        {"seed": None},
        {"before_each": awaited},
        {"on_kill": awaited},
        {"advance": awaited},
        {"make_layer": awaited},
    ],
    ids=lambda option: next(iter(option)),
)
def test_a_wrong_option_of_crash_points_is_refused_before_a_call_is_made(option):
    called = []
    with pytest.raises(ValueError, match=f"{next(iter(option))}="):
        crash_points(called.append, 1, effects=called, **option)
    assert called == []
