"""Every interleaving of two and three calls with one key, with a crash and a lapsed lease at every point."""

from __future__ import annotations

import logging

import pytest

from retrysafe.config import IdempotencyConfig
from retrysafe.exceptions import (
    IdempotencyAbandonedError,
    IdempotencyAlreadyInProgressError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from support.interleaving import World, explore

HONEST = (
    IdempotencyAbandonedError,
    IdempotencyAlreadyInProgressError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceLayerError,
)


@pytest.fixture(autouse=True)
def _quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def holds(world: World, final: bool) -> None:
    """What must hold in every world, whatever struck."""
    assert world.live_runs() <= 1, "two calls run at once, and the lease of neither has lapsed"
    assert len(world.answers()) <= 1, f"two callers hold different answers: {world.answers()}"
    assert all(actor.runs <= 1 for actor in world.actors), "one call ran its function twice"
    assert not world.begun_late, "a function was begun with a lease that was over"
    for actor in world.actors:
        standing = next(iter(world.store.values()), None)
        if actor.end is not None and standing is not None and standing.owner == f"owner-{actor.name}":
            assert standing.stored_status != INPROGRESS or world.faults, "a call is over and still holds the key"
    for error in world.errors():
        assert isinstance(error, HONEST), f"a caller got {error!r}"
    if final and not world.faults:
        assert world.executions == 1, f"{world.executions} executions without any fault"
        assert [r.stored_status for r in world.store.values()] == [COMPLETED]
    if final and not {"crash", "lapse"} & set(world.faults):
        assert world.executions <= 1, f"{world.executions} executions without a crash or a lapse"
    if final:
        further = world.executions - 1
        assert further <= world.faults.count("crash") + world.faults.count("lapse"), "an execution nothing explains"


FAULTS = [
    (2, {}),
    (3, {}),
    (2, {"crash": 1, "lapse": 2}),
    (2, {"reply lost": 2, "lapse": 1}),
    (2, {"request lost": 2, "lapse": 1}),
    (2, {"crash": 1, "lapse": 1, "reply lost": 1}),
    (3, {"crash": 1}),
    (3, {"lapse": 1}),
    (2, {"lapse": 3}),
]


@pytest.mark.parametrize(("calls", "budget"), [*FAULTS, (3, {"crash": 1, "lapse": 2})], ids=str)
def test_no_interleaving_runs_twice_or_answers_differently(calls, budget):
    assert explore(calls, IdempotencyConfig(), budget, holds) > 10


@pytest.mark.parametrize(("calls", "budget"), FAULTS, ids=str)
def test_nor_does_one_in_which_duplicates_wait(calls, budget):
    waiting = IdempotencyConfig(on_in_progress="wait", wait_timeout_seconds=0.001)
    assert explore(calls, waiting, budget, holds) > 10


def test_with_on_abandoned_raise_nothing_ever_runs_twice_whatever_strikes():
    def at_most_once(world: World, final: bool) -> None:
        holds(world, final)
        assert world.executions <= 1

    explore(3, IdempotencyConfig(on_abandoned="raise"), {"crash": 1, "lapse": 2}, at_most_once)
    explore(2, IdempotencyConfig(on_abandoned="raise"), {"lapse": 1, "reply lost": 2}, at_most_once)


def test_a_failed_run_frees_the_key_for_the_others_and_only_its_own_caller_sees_the_failure():
    def check(world: World, final: bool) -> None:
        assert world.live_runs() <= 1
        assert len(world.answers()) <= 1
        for actor in world.actors:
            if actor.end is not None and actor.name != 0 and world.errors():
                assert not isinstance(getattr(actor.end, "error", None), ValueError)
        if final and not world.faults:
            assert sum(a.runs for a in world.actors if a.name != 0) <= 1

    explore(3, IdempotencyConfig(), {"crash": 1}, check, failing=frozenset({0}))


def test_a_late_owner_changes_nothing():
    """Whenever a call whose lease was taken over acts again, the record stays what it was."""

    class Watched(World):
        def take(self, choice):
            before = dict(self.store)
            super().take(choice)
            actor = self.actors[choice[1]] if choice[0] in ("run", "reply lost") else None
            if actor is None or not before or not self.store:
                return
            (old,), (new,) = before.values(), self.store.values()
            if old is not new and new.owner == f"owner-{actor.name}" and old.owner != new.owner:
                assert new.replaces is old or old.window_over(self.clock.now_ms()), "overwrote another's record"

    def check(world: World, final: bool) -> None:
        for actor in world.actors:
            if actor.end is not None and actor.runs and world.store:
                (standing,) = world.store.values()
                if standing.owner != f"owner-{actor.name}":
                    assert isinstance(actor.end.error, IdempotencyLeaseLostError | IdempotencyPersistenceLayerError)

    import support.interleaving as module  # noqa: PLC0415  # patched for this test alone

    original = module.World
    module.World = Watched
    try:
        assert explore(3, IdempotencyConfig(), {"lapse": 2}, check) > 100
    finally:
        module.World = original
