"""Pauses grow up to a limit, end with the time that is left, and never outlast it where a clock stands still."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from retrysafe import IdempotencyConfig
from retrysafe.pauses import (
    FIRST_PAUSE,
    INTERRUPTED_TRIES,
    LONGEST_PAUSE,
    LONGEST_STORE_PAUSE,
    LONGEST_TOLD_PAUSE,
    Trying,
    Waiting,
    seconds_until,
)
from retrysafe.persistence.datarecord import INPROGRESS, DataRecord
from retrysafe.testing import ManualClock
from retrysafe.wishes import Fetch, Raised, StoreFailed

LEASE_S = 30
WAIT_S = 20.0
NOW_MS = 1_800_000_000_000


def a_call(clock, told=None):
    config = IdempotencyConfig(on_in_progress="wait", wait_timeout_seconds=WAIT_S)
    return SimpleNamespace(
        plan=SimpleNamespace(config=config, clock=clock),
        idempotency_key="key",
        tell=lambda *event, **what: told.append(what),
    )


def step(flow, answer=None):
    """The next wish of the flow, or what it returned, and which of both."""
    try:
        return flow.send(answer), True
    except StopIteration as stop:
        return stop.value, False


def tries(clock, passes, lease_s=LEASE_S):
    """The pauses between the tries to store an outcome, from now until the lease is over; a store that always fails."""
    trying = Trying(a_call(clock), clock.now_ms() + lease_s * 1000)
    pauses = []
    while True:
        flow = trying.once_more(OSError(), None)
        got, waits = step(flow)
        if not waits:
            assert got is False
            return pauses
        pauses.append(got.seconds)
        passes(got.seconds)
        assert step(flow, sum(pauses)) == (True, False)


@pytest.mark.parametrize("clock_moves", [True, False], ids=["clock-moves", "clock-stands-still"])
def test_an_outcome_is_tried_at_doubling_pauses_for_as_long_as_the_lease(clock_moves):
    clock = ManualClock()
    pauses = tries(clock, clock.advance if clock_moves else lambda seconds: None)
    assert pauses[:7] == [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28]
    assert set(pauses[7:-1]) == {LONGEST_STORE_PAUSE}
    assert sum(pauses) == pytest.approx(LEASE_S), "the last one is cut short"


def test_on_a_short_lease_too_the_last_try_is_made_when_it_ends():
    clock = ManualClock()
    assert sum(tries(clock, clock.advance, lease_s=4)) == pytest.approx(4)


def test_an_outcome_is_not_tried_past_a_lease_that_the_clock_says_is_over():
    clock = ManualClock()
    pauses = tries(clock, lambda seconds: clock.advance(LEASE_S / 2))
    assert pauses == [0.02, 0.04][: len(pauses)]


@pytest.mark.parametrize("where", ["while it was stored", "in a pause"])
def test_an_outcome_that_was_interrupted_is_tried_a_few_times_at_once_whatever_comes_then(where):
    trying, first = Trying(a_call(ManualClock()), NOW_MS), KeyboardInterrupt("first")
    tried = 1
    if where == "in a pause":
        trying = Trying(a_call(clock := ManualClock()), clock.now_ms() + LEASE_S * 1000)
        flow = trying.once_more(OSError(), None)
        step(flow)
        assert step(flow, StoreFailed(first)) == (True, False)
    else:
        assert step(trying.once_more(first, None)) == (True, False)
    while step(trying.once_more(KeyboardInterrupt("second") if tried == 1 else OSError(), None)) == (True, False):
        tried += 1
    assert tried == INTERRUPTED_TRIES - 1, "with the one that was interrupted, or comes after the pause"
    assert trying.interrupted is first


def held_by(owner=None, *, lease_s=3600):
    """A running call's claim; without an owner that of a peer, which tells nobody when it ends."""
    return DataRecord("key", INPROGRESS, NOW_MS // 1000 + 3600, NOW_MS + int(lease_s * 1000), owner=owner)


def looks(found):
    """The pauses of a duplicate whose looks find this, until it is told what came of it."""
    now_ms, moment, pauses, told = NOW_MS, 100.0, [], []
    held = held_by()
    waiting = Waiting(a_call(ManualClock(), told))
    while True:
        flow = waiting.look_again(held, now_ms)
        got, waits = step(flow)
        if not waits:
            assert told == [{"waited_seconds": waiting.waited, "answered": False}]
            return pauses, got
        pauses.append(got.seconds)
        moment += got.seconds
        wish, _ = step(flow, moment)
        assert isinstance(wish, Fetch)
        result, _ = step(flow, held if found is None else found)
        if result is not held:
            return pauses, result


def test_a_duplicate_looks_at_pauses_that_grow_by_half_for_as_long_as_it_waits():
    pauses, end = looks(None)
    limit = FIRST_PAUSE
    for pause in pauses[:-1]:
        assert limit / 2 <= pause <= limit
        limit = min(limit * 1.5, LONGEST_PAUSE)
    assert limit == LONGEST_PAUSE
    assert sum(pauses) == pytest.approx(WAIT_S)
    assert isinstance(end, Raised)
    assert "after waiting 20.000 s" in str(end.error)


def first_pause(held):
    pause, _ = step(Waiting(a_call(ManualClock())).look_again(held, NOW_MS))
    return pause


def test_a_duplicate_that_will_be_told_looks_seldom_and_any_other_at_each_pause():
    told, untold = first_pause(held_by("owner")), first_pause(held_by())
    assert told.at_most >= LONGEST_TOLD_PAUSE / 2 > told.seconds
    assert untold.at_most == untold.seconds


@pytest.mark.parametrize("owner", ["owner", None])
@pytest.mark.parametrize(("lease_s", "seconds"), [(0.001, 0.002), (0, 0.001)], ids=["soon", "now"])
def test_a_duplicate_looks_as_soon_as_the_lease_is_over(owner, lease_s, seconds):
    pause = first_pause(held_by(owner, lease_s=lease_s))
    assert (pause.seconds, pause.at_most) == (seconds, seconds)


def test_a_lease_that_the_store_has_not_seen_end_is_looked_at_soon_as_nobody_tells_of_it():
    pause = first_pause(held_by("owner", lease_s=-1))
    assert FIRST_PAUSE / 2 <= pause.at_most == pause.seconds <= FIRST_PAUSE


def test_a_lease_that_the_store_has_not_seen_end_is_said_to_be_over_in_a_moment():
    assert seconds_until(NOW_MS - 1000, NOW_MS) == 0.001


def test_a_store_that_fails_costs_a_duplicate_a_look_and_at_the_end_its_error_is_told():
    failed = StoreFailed(OSError("gone"))
    pauses, end = looks(failed)
    assert sum(pauses) == pytest.approx(WAIT_S)
    assert end is failed
