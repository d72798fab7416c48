"""Many callers at the same time on each store, threads and tasks, beside the bare commands by as many callers.

The value is a rate, ours / bare. On SQLite, bare is one connection that the threads take in turns.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, of_pairs
from benchmarks.pairs import summarised
from benchmarks.per_call import PHASES, echo, echo_async, payloads
from benchmarks.stores import SQLite, places

import retrysafe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from benchmarks.memory import Payload
    from benchmarks.stores import AsyncStore, Place, Store

SECTION = "throughput"
CALLERS = (1, 4, 16, 64, 256)
SIZE = "100 B"
CALLS = 512
SLOW_CALLS = 40
SLOW = "DynamoDB"
UNCOUNTED = 1


def measure(rounds: int) -> Iterator[Figure]:
    warnings.simplefilter("ignore")  # we warn of a name that others may share
    rounds = max(3, rounds // 10)
    with places() as all_places:
        for place in all_places:
            for callers in CALLERS:
                for phase, what in PHASES.items():
                    with place.sync() as store:
                        times = _in_threads(place, store, callers, phase, rounds)
                    yield _figure(place, what, "threads", callers, times)
                    yield _figure(place, what, "tasks", callers, asyncio.run(_in_tasks(place, callers, phase, rounds)))


def _figure(place: Place, what: str, kind: str, callers: int, times: list[tuple[float, float]]) -> Figure:
    figure = of_pairs(
        SECTION, f"{place.name}, {what}: {callers} {kind}; value is a rate", "bare commands", summarised(times)
    ).rate()
    return replace(figure, plot=f"{place.name}, {what}", line=kind, at=callers)


def _given(place: Place, callers: int) -> list[Payload]:
    least = max(SLOW_CALLS, callers) if place.name.startswith(SLOW) else CALLS
    given: list[Payload] = []
    while len(given) < least:
        given += payloads(SIZE)
    return given


# --- threads -------------------------------------------------------------------------------------------------------


def _in_threads(place: Place, store: Store, callers: int, phase: str, rounds: int) -> list[tuple[float, float]]:
    protected = retrysafe.idempotent_function(echo, data_keyword_argument="data", persistence_store=store.layer)
    turn = threading.Lock()

    def ours(payload: Payload) -> None:
        protected(data=payload)

    def bare(command: Callable[[str, Payload, str], Any]) -> Callable[[Payload], None]:
        def call(payload: Payload) -> None:
            command(f"{payload['id']:032x}", payload, json.dumps(payload))

        def call_in_turn(payload: Payload) -> None:
            with turn:
                call(payload)

        return call_in_turn if isinstance(place, SQLite) else call

    times: list[tuple[float, float]] = []
    with ThreadPoolExecutor(callers) as pool:
        for number in range(UNCOUNTED + rounds):
            pair: dict[str, float] = {}
            subjects = {"ours": (ours, ours), "bare": (bare(store.first), bare(store.replay))}
            for name in sorted(subjects, reverse=bool(number % 2)):
                first, replay = subjects[name]
                given = _given(place, callers)
                if phase == "replay":
                    _timed(pool, callers, first, given)
                pair[name] = _timed(pool, callers, replay if phase == "replay" else first, given)
            if number >= UNCOUNTED:
                times.append((pair["ours"], pair["bare"]))
    return times


def _timed(pool: ThreadPoolExecutor, callers: int, call: Callable[[Payload], None], given: list[Payload]) -> float:
    """Nanoseconds per call, all callers together, from the moment that lets them go to the end of the last."""
    started: list[int] = []
    # By whoever comes last, while all still stand: once they are let go, one may be through before others have begun.
    ready = threading.Barrier(callers, action=lambda: started.append(time.perf_counter_ns()))

    def caller(own: list[Payload]) -> int:
        ready.wait()
        for payload in own:
            call(payload)
        return time.perf_counter_ns()

    running = [pool.submit(caller, given[number::callers]) for number in range(callers)]
    return (max(each.result() for each in running) - started[0]) / len(given)


# --- tasks ---------------------------------------------------------------------------------------------------------


async def _in_tasks(place: Place, callers: int, phase: str, rounds: int) -> list[tuple[float, float]]:
    times: list[tuple[float, float]] = []
    async with place.asynchronous() as store:
        protected = retrysafe.idempotent_function(
            echo_async, data_keyword_argument="data", persistence_store=store.layer
        )

        async def ours(payload: Payload) -> None:
            await protected(data=payload)

        subjects = {"ours": (ours, ours), "bare": (_bare(store, "first"), _bare(store, "replay"))}
        for number in range(UNCOUNTED + rounds):
            pair: dict[str, float] = {}
            for name in sorted(subjects, reverse=bool(number % 2)):
                first, replay = subjects[name]
                given = _given(place, callers)
                if phase == "replay":
                    await _timed_tasks(callers, first, given)
                pair[name] = await _timed_tasks(callers, replay if phase == "replay" else first, given)
            if number >= UNCOUNTED:
                times.append((pair["ours"], pair["bare"]))
    return times


def _bare(store: AsyncStore, phase: str) -> Callable[[Payload], Awaitable[None]]:
    command = store.first if phase == "first" else store.replay

    async def call(payload: Payload) -> None:
        await command(f"{payload['id']:032x}", payload, json.dumps(payload))

    return call


async def _timed_tasks(callers: int, call: Callable[[Payload], Awaitable[None]], given: list[Payload]) -> float:
    async def caller(own: list[Payload]) -> None:
        for payload in own:
            await call(payload)

    started = time.perf_counter_ns()
    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(caller(given[number::callers]))
    return (time.perf_counter_ns() - started) / len(given)
