"""A crash test under way: an undisturbed call, then one for each point, killed there, retried and judged."""

from __future__ import annotations

import asyncio
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from retrysafe.persistence.base import AsyncBasePersistenceLayer
from retrysafe.testing._crash.effects import Effects, Tally, merged, since, tally
from retrysafe.testing._crash.life import NOWHERE, Spot
from retrysafe.testing._crash.verdicts import Judgement, Tried, doubled, judge, judge_undisturbed, missed
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.crash_report import CrashPoint, CrashReport

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from retrysafe.testing._crash.calls import Ending, Lived
    from retrysafe.testing._crash.life import AnyLayer


_COURSES = 4
"""How often a point is tried at most, where the call takes another course each time."""


class Trial:
    """All the tries of one function.

    Args:
        live: Makes the call in a life of its own, on this layer, to be killed at the point of this number.
        effects: The ledger.
        before_each: Puts the world back.
        on_kill: Drops what goes with a process's memory.
        retries: After how many tries a client gives up.
        make_layer: Makes a layer on a store without records.
        advance: Lets time pass for it. Default: moves the clock.
    """

    def __init__(
        self,
        live: Callable[[AnyLayer, int | None], Lived],
        effects: Effects,
        before_each: Callable[[], object],
        on_kill: Callable[[], object],
        retries: int,
        make_layer: Callable[[ManualClock], AnyLayer],
        advance: Callable[[float], object] | None,
    ) -> None:
        self._live = live
        self._effects = effects
        self._before_each = before_each
        self._on_kill = on_kill
        self._retries = retries
        self._make_layer = make_layer
        self._advance = advance
        self._by_number = False
        self._expected: Tally = {}
        self._outside: frozenset[Any] = frozenset()
        self._keys: frozenset[str] = frozenset()
        self._answer: Ending | None = None
        self._compared: Ending | None = None

    def report(self, name: str, max_points: int, seed: int) -> CrashReport:
        """Try an undisturbed call twice, then each point that is chosen.

        Args:
            name: What the report calls the function.
            max_points: How many points are tried.
            seed: By which they are chosen.

        Raises:
            ValueError: The test would mean nothing.
        """
        notes: list[str] = []
        first, _ = self._undisturbed()
        expected = self._expected
        if not any(times > 0 for times in expected.values()):
            raise ValueError("the undisturbed call made no effect that `effects` shows, so there is nothing to compare")
        second, spots = self._undisturbed()
        if sum(expected.values()) != sum(self._expected.values()):
            raise ValueError(
                f"the world remembers: one undisturbed call of {name} makes the effects {expected}, and the same call "
                f"with a new store {self._expected}. Put the world back with before_each=, and let make_layer=, "
                "where it is given, make a store without records"
            )
        if expected != self._expected:
            self._by_number = True
            self._expected = merged(self._expected)
            notes.append("The effects have other names in each run, so they are compared by their number alone.")
        self._answer = second
        self._compared = second if first.same_as(second) else None
        if self._compared is None:
            notes.append("Two undisturbed runs gave different answers, so the answers of retries are not compared.")
        points = [self._point(None, NOWHERE)]
        points += [self._point(index, spots[index]) for index in _chosen(spots, max_points, seed)]
        ran_on = sum(point.ran_on for point in points)
        if ran_on:
            notes.append(
                f"At {ran_on} of the points, a `finally`, `except` or `with` of the function itself ran on after the "
                "kill, as none does when a process dies. With processes=True they do not."
            )
        return CrashReport(name, tuple(points), total=len(spots), seed=seed, notes=tuple(notes))

    def _undisturbed(self) -> tuple[Ending, tuple[Spot, ...]]:
        """One call in a new store: its ending and its points; its effects become the expected ones."""
        with self._world() as (layer, _):
            before = self._tally()
            lived = self._live(layer, None)
            self._expected = since(before, self._tally())
            self._keys = self._keys.union(lived.keys)
            if lived.ending is None:  # nothing kills it
                raise RuntimeError("an undisturbed call died")
            if lived.ending.error:
                again = self._live(layer, None)
                if not lived.runs or again.runs or again.ending is None or not again.ending.same_as(lived.ending):
                    raise ValueError(
                        f"the undisturbed call raised {lived.ending}; let it succeed, or fail with one of "
                        "replay_exceptions"
                    ) from lived.error
        if not lived.runs and not any(spot.kind == "store" for spot in lived.spots):
            raise ValueError("the undisturbed call made no call of an idempotent function, in its own thread or tasks")
        return lived.ending, lived.spots

    def _point(self, index: int | None, planned: Spot) -> CrashPoint:
        tried, judgement = self._tried(index, planned)
        spot = planned if judgement.verdict == "not reached" else tried.killed.killed or planned
        return CrashPoint(
            number=0 if index is None else index + 1,
            kind=spot.kind,
            what=spot.what,
            file=spot.file,
            line=spot.line,
            function=spot.function,
            expected=self._expected,
            when_killed=tried.when_killed,
            seen=tried.seen,
            retries=len(tried.retries),
            verdict=judgement.verdict,
            why=judgement.why,
            advice=judgement.advice,
            ran_on=tried.killed.ran_on,
        )

    def _tried(self, index: int | None, planned: Spot) -> tuple[Tried, Judgement]:
        """Try a point; again where the call takes another course, as what comes of another point says nothing of it."""
        courses = 0
        while True:
            with self._world() as (layer, clock):
                tried = self._try(layer, clock, index)
            if index is None:
                self._outside = doubled(self._expected, tried.seen)
                return tried, judge_undisturbed(tried, self._expected, self._compared)
            judgement = missed("ended before this point")
            if tried.killed.killed is not None:
                judgement = judge(tried, self._expected, self._compared, self._outside, self._keys)
                if tried.killed.killed == planned or judgement.verdict not in ("ok", "stopped"):
                    return tried, judgement
                judgement = missed("came to others in place of this point")
            courses += 1
            if courses == _COURSES:
                return tried, judgement

    def _try(self, layer: AnyLayer, clock: ManualClock, kill_at: int | None) -> Tried:
        before = self._tally()
        killed = self._live(layer, kill_at)
        if killed.killed is not None:
            self._on_kill()
        when_killed = since(before, self._tally())
        tries: list[Lived] = []
        lived, answered = killed, killed.killed is None
        while not answered and len(tries) < self._retries:
            self._let_lapse(layer, clock, lived)
            lived = self._live(layer, None)
            tries.append(lived)
            if lived.stopped:
                break
            answered = self._is_answer(lived.ending)
        duplicate = self._live(layer, None) if answered else None
        return Tried(killed, tuple(tries), duplicate, when_killed, since(before, self._tally()))

    def _is_answer(self, ending: Ending | None) -> bool:
        if ending is None:
            return False
        return not ending.error or (self._answer is not None and ending.same_as(self._answer))

    def _let_lapse(self, layer: AnyLayer, clock: ManualClock, lived: Lived) -> None:
        """Let the leases end that a life has left behind, or that it was told of."""
        now = layer.clock.now_ms()
        lefts = [(end - now + 1) / 1000 for end in lived.leases if end is not None]
        if lived.ending is not None and lived.ending.retry_after is not None:
            lefts.append(lived.ending.retry_after)
        if any(left > 0 for left in lefts):
            (self._advance or clock.advance)(max(lefts))

    def _tally(self) -> Tally:
        counted = tally(self._effects)
        return merged(counted) if self._by_number else counted

    @contextmanager
    def _world(self) -> Generator[tuple[AnyLayer, ManualClock]]:
        """The world as it was at the start, with a store without records."""
        self._before_each()
        clock = ManualClock()
        layer = self._make_layer(clock)
        if self._advance is None and layer.clock is not clock:
            raise ValueError(
                "make_layer must hand the clock that it gets on to the layer; else say with advance= how time passes"
            )
        try:
            yield layer, clock
        finally:
            if isinstance(layer, AsyncBasePersistenceLayer):
                asyncio.run(layer.close())
            else:
                layer.close()


def _chosen(spots: tuple[Spot, ...], max_points: int, seed: int) -> list[int]:
    """The points to be tried: all, or a choice of which the store's are at least a half, if there are so many."""
    stores = [index for index, spot in enumerate(spots) if spot.kind == "store"]
    others = [index for index, spot in enumerate(spots) if spot.kind != "store"]
    chance = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
    of_store = max(max_points - len(others), (max_points + 1) // 2)
    chosen = chance.sample(stores, min(len(stores), of_store))
    return sorted(chosen + chance.sample(others, min(len(others), max_points - len(chosen))))
