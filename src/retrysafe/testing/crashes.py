"""`crash_points`: kills a call of an idempotent function at every point, retries it, and looks at what it did."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from retrysafe.persistence.base import AsyncBasePersistenceLayer
from retrysafe.persistence.memory import MemoryPersistenceLayer
from retrysafe.testing._crash_calls import Ending, Lived, in_its_own_process, in_this_process
from retrysafe.testing._crash_code import code_of
from retrysafe.testing._crash_detour import detours
from retrysafe.testing._crash_effects import Effects, Tally, merged, since, tally
from retrysafe.testing._crash_life import NOWHERE, Spot
from retrysafe.testing._crash_verdicts import SAME_COURSE, Judgement, Tried, doubled, judge, judge_undisturbed
from retrysafe.testing.clock import ManualClock
from retrysafe.testing.crash_report import CrashPoint, CrashReport

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from retrysafe.testing._crash_life import AnyLayer


def crash_points(
    func: Callable[..., Any],
    *args: Any,
    effects: Effects,
    before_each: Callable[[], object] | None = None,
    on_kill: Callable[[], object] | None = None,
    steps: Literal["function", "file"] = "function",
    max_points: int = 1000,
    seed: int = 0,
    retries: int = 5,
    processes: bool = False,
    make_layer: Callable[[ManualClock], AnyLayer] | None = None,
    advance: Callable[[float], object] | None = None,
) -> CrashReport:
    """Kill a call at every point, retry it as a client does, and report where its effects double or get lost.

    ```python
    report = crash_points(charge, "order-1", 4200, effects=provider.charges)
    report.raise_for_problems()
    ```

    A call is made for each point: before and after each operation of the store takes effect, before each line of the
    function, and (async) at each wait, as it begins and when it is over. There its process dies. Then the lease is made
    to lapse, the same call is made again until it gets an answer, and once more as a duplicate. The effects of all
    that are compared with those of one undisturbed call, and so are the answers.

    Every idempotent function that is called in the course of it, in this thread and its tasks, keeps its records in a
    store of the test's own; its own layer is not touched.

    Args:
        func: What a client calls: an idempotent function, a Lambda handler, or whatever calls them; sync or async.
        *args: Its arguments, the same in each call. For keyword arguments, or arguments made anew, pass a lambda.
        effects: The ledger of what was done to the world: a number, a collection with an entry for each effect, or a
            mapping from effects to numbers; or a function that reads it.
        before_each: Called before each point: puts the world back to the start.
        on_kill: Called after each kill: drops what goes with a process's memory, such as buffers and caches.
        steps: "function": the lines of the functions that are called here and of idempotent ones. "file": also those of
            other functions in the same files.
        max_points: How many points are tried at most. Those of the store are; of the others, so many as are left.
        seed: By which they are chosen.
        retries: After how many tries without an answer a client gives up.
        processes: False: a kill is an exception that no `except Exception` stops; `finally` and `with` of the function
            still run. True: each call is made in a forked process that dies by SIGKILL; effects must then be kept
            outside of it, in a file or a database.
        make_layer: Makes a layer on a store without records, to use instead of the one in memory (SQLite, with
            `processes`). It gets the clock by which it is to judge leases.
        advance: Lets time pass for that layer, in seconds. Default: moves the clock handed to `make_layer`.

    Returns:
        The report. `report.ok`, `report.problems`, `report.raise_for_problems()`, `str(report)`.

    Raises:
        ValueError: The test would mean nothing: an undisturbed call makes no effect, calls no idempotent function,
            has no answer, or the next such call makes other effects; or an option is wrong.
        TypeError: `effects` can't be counted.
    """
    if steps not in ("function", "file"):
        raise ValueError(f"steps={steps!r}: must be 'function' or 'file'")
    if max_points < 1 or retries < 1:
        raise ValueError(f"max_points={max_points!r} and retries={retries!r} must be at least 1")
    if processes and not hasattr(os, "fork"):
        raise ValueError("processes=True needs os.fork, which this system does not have")
    with detours(), tempfile.TemporaryDirectory(prefix="retrysafe-") as directory:
        trial = _Trial(
            functools.partial(_live, processes, func, args, steps == "file"),
            effects,
            before_each or _nothing,
            on_kill or _nothing,
            retries,
            make_layer or (functools.partial(_sqlite_layer, directory) if processes else _memory_layer),
            advance,
        )
        return trial.report(_name(func), max_points, seed)


class _Trial:
    """All the tries of one function."""

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
        self._answer: Ending | None = None
        self._compared: Ending | None = None

    def report(self, name: str, max_points: int, seed: int) -> CrashReport:
        """Try an undisturbed call twice, then each point."""
        notes: list[str] = []
        first, _ = self._undisturbed()
        expected = self._expected
        if not any(times > 0 for times in expected.values()):
            raise ValueError("the undisturbed call made no effect that `effects` shows, so there is nothing to compare")
        second, spots = self._undisturbed()
        if sum(expected.values()) != sum(self._expected.values()):
            raise ValueError(
                f"the world remembers: one undisturbed call of {name} makes the effects {expected}, and the same call "
                f"with a new store {self._expected}. Put the world back with before_each="
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
        with self._world() as (layer, clock):
            tried = self._try(layer, clock, index)
        spot = tried.killed.killed or planned
        if index is None:
            self._outside = doubled(self._expected, tried.seen)
            judgement = judge_undisturbed(tried, self._expected, self._compared)
        elif tried.killed.killed is None:
            judgement = Judgement(
                "not reached", "The call took another course, and ended before this point.", SAME_COURSE
            )
        else:
            judgement = judge(tried, self._expected, self._compared, self._outside)
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
            if lived.ending is not None and lived.ending.stopped:
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


def _live(
    processes: bool,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    whole_file: bool,
    layer: AnyLayer,
    kill_at: int | None,
) -> Lived:
    call = in_its_own_process if processes else in_this_process
    return call(layer, func, args, {"kill_at": kill_at, "whole_file": whole_file})


def _name(func: Callable[..., Any]) -> str:
    code = code_of(func)
    if code is None:
        return repr(func)
    return f"the lambda in line {code.co_firstlineno}" if code.co_name == "<lambda>" else code.co_qualname


def _chosen(spots: tuple[Spot, ...], max_points: int, seed: int) -> list[int]:
    """The points to be tried: those of the store first."""
    stores = [index for index, spot in enumerate(spots) if spot.kind == "store"][:max_points]
    others = [index for index, spot in enumerate(spots) if spot.kind != "store"]
    left = min(len(others), max_points - len(stores))
    return sorted(stores + random.Random(seed).sample(others, left))  # noqa: S311  # chosen to be repeated, not secret


def _memory_layer(clock: ManualClock) -> AnyLayer:
    return MemoryPersistenceLayer(clock=clock)


def _sqlite_layer(directory: str, clock: ManualClock) -> AnyLayer:
    """A store that outlives processes; of their death nothing is lost that waits for no disk."""
    from retrysafe.persistence.sqlite import SQLitePersistenceLayer  # noqa: PLC0415  # for `processes` alone

    file, path = tempfile.mkstemp(suffix=".db", dir=directory)
    os.close(file)
    return SQLitePersistenceLayer(path, synchronous="off", clock=clock)


def _nothing() -> None:
    """What is done where nothing is asked for."""
