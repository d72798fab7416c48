"""One call after the other on each store, with payloads of three sizes: beside the bare commands, and beside peers.

The function gives its payload back, so the size is that of the payload and that of the answer. DynamoDB takes no item
of 1 MB. A replay out of the local cache asks no store, and is measured once.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import idemkit
from benchmarks import peer
from benchmarks.figures import Figure, of_pairs
from benchmarks.memory import LambdaContext, Payload
from benchmarks.pairs import Batch, Subject, compare
from benchmarks.stores import AsyncStore, Bare, Place, Store, places
from idemkit.adapters.ai import idempotent as idemkit_idempotent

import retrysafe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

SECTION = "per call"
SIZES = {"100 B": 100, "10 KB": 10_000, "1 MB": 1_000_000}
# So many that a round lasts some milliseconds.
CALLS = {"100 B": 20, "10 KB": 20, "1 MB": 2}
PHASES = {"first": "first call", "replay": "replay"}
NUMBERS = itertools.count()


def measure(rounds: int) -> Iterator[Figure]:
    warnings.simplefilter("ignore")  # idemkit warns that it has one tenant, and we of a name that others may share
    rounds = max(5, rounds // 4)
    with places() as all_places:
        for place in all_places:
            for size, count in SIZES.items():
                if count <= place.largest:
                    with place.sync() as store:
                        yield from _sync_figures(store, size, rounds)
                    yield from _async_figures(place, size, rounds)
    for size in SIZES:
        yield from _local_figures(size, rounds)


def payloads(size: str) -> list[Payload]:
    """Payloads of about so many bytes, each with a key that no other has."""
    text = "x" * (SIZES[size] - 30)
    return [{"id": next(NUMBERS), "text": text} for _ in range(CALLS[size])]


def echo(data: Payload) -> Payload:
    return data


async def echo_async(data: Payload) -> Payload:
    return data


# --- synchronous ---------------------------------------------------------------------------------------------------


def _sync_figures(store: Store, size: str, rounds: int) -> Iterator[Figure]:
    ours = retrysafe.idempotent_function(echo, data_keyword_argument="data", persistence_store=store.layer)
    theirs = store.powertools and peer.idempotent_function(
        echo,
        data_keyword_argument="data",
        persistence_store=store.powertools,
        config=peer.config("", LambdaContext()),
    )
    for phase, what in PHASES.items():
        bare = partial(_bare, store.first, store.replay, size, phase)
        subjects = {"bare commands": bare}
        if theirs is not None:
            subjects["Powertools"] = partial(_protected, theirs, size, phase)
        for other, subject in subjects.items():
            yield _figure(
                partial(_protected, ours, size, phase), subject, f"{store.name}, {size}: {what}", other, rounds
            )


def _protected(protected: Callable[..., Any], size: str, phase: str) -> Batch:
    given = payloads(size)
    batch = partial(_each, protected, given)
    if phase == "replay":
        batch()
    return batch


def _each(protected: Callable[..., Any], given: list[Payload]) -> None:
    for payload in given:
        protected(data=payload)


def _bare(first: Bare, replay: Bare, size: str, phase: str) -> Batch:
    given = [(f"{payload['id']:032x}", payload, json.dumps(payload)) for payload in payloads(size)]
    batch = partial(_each_bare, first, given)
    if phase == "first":
        return batch
    batch()
    return partial(_each_bare, replay, given)


def _each_bare(command: Bare, given: list[tuple[str, Payload, str]]) -> None:
    for arguments in given:
        command(*arguments)


def _local_figures(size: str, rounds: int) -> Iterator[Figure]:
    ours = retrysafe.idempotent_function(
        echo,
        data_keyword_argument="data",
        persistence_store=retrysafe.MemoryPersistenceLayer(),
        config=retrysafe.IdempotencyConfig(use_local_cache=True),
    )
    config = peer.IdempotencyConfig(use_local_cache=True)
    config.register_lambda_context(LambdaContext())
    theirs = peer.idempotent_function(
        echo, data_keyword_argument="data", persistence_store=peer.PeerMemoryLayer(), config=config
    )
    first, second = (partial(_protected, protected, size, "replay") for protected in (ours, theirs))
    yield _figure(first, second, f"local cache, {size}: replay", "Powertools", rounds)


# --- asynchronous --------------------------------------------------------------------------------------------------


def _async_figures(place: Place, size: str, rounds: int) -> Iterator[Figure]:
    with asyncio.Runner() as runner:
        opened = place.asynchronous()
        store = runner.run(opened.__aenter__())
        try:
            yield from _figures_of_loop(store, size, rounds, runner)
        finally:
            runner.run(opened.__aexit__(None, None, None))


def _figures_of_loop(store: AsyncStore, size: str, rounds: int, runner: asyncio.Runner) -> Iterator[Figure]:
    ours = retrysafe.idempotent_function(echo_async, data_keyword_argument="data", persistence_store=store.layer)
    theirs: Any = None
    if store.idemkit is not None:
        protect: Any = idemkit_idempotent(backend=store.idemkit, config=idemkit.MethodConfig(key_fields=["data"]))
        theirs = protect(echo_async)
    for phase, what in PHASES.items():
        bare = partial(_async_bare, store, size, phase, runner)
        subjects: dict[str, Subject] = {"bare commands": bare}
        if theirs is not None:
            subjects["idemkit"] = partial(_async_protected, theirs, size, phase, runner)
        for other, subject in subjects.items():
            mine = partial(_async_protected, ours, size, phase, runner)
            yield _figure(mine, subject, f"{store.name}, {size}: {what}, asyncio", other, rounds)


def _async_protected(protected: Callable[..., Awaitable[Any]], size: str, phase: str, runner: asyncio.Runner) -> Batch:
    given = payloads(size)

    async def each() -> None:
        for payload in given:
            await protected(data=payload)

    if phase == "replay":
        runner.run(each())
    return lambda: runner.run(each())


def _async_bare(store: AsyncStore, size: str, phase: str, runner: asyncio.Runner) -> Batch:
    given = [(f"{payload['id']:032x}", payload, json.dumps(payload)) for payload in payloads(size)]

    async def each(command: Callable[[str, Payload, str], Awaitable[Any]]) -> None:
        for arguments in given:
            await command(*arguments)

    if phase == "first":
        return lambda: runner.run(each(store.first))
    runner.run(each(store.first))
    return lambda: runner.run(each(store.replay))


def _figure(ours: Subject, other: Subject, what: str, name: str, rounds: int) -> Figure:
    size = next(size for size in SIZES if f", {size}:" in what)
    clock = time.process_time_ns if what.startswith(("memory", "local")) else time.perf_counter_ns
    pairs = compare(ours, other, calls=CALLS[size], rounds=rounds, clock=clock)
    return of_pairs(SECTION, what, name, pairs)
