"""Valkey, one server and one client for all: whole calls beside the bare commands, Powertools and idemkit.

Bare means: `SET key record NX PX` and `SET key record PX` for a first call, `GET key` for a replay, through the same
redis-py client, the record's text ready. The wall clock counts, since most of the time the server has its turn.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import idemkit
import redis
import redis.asyncio
from benchmarks import peer
from benchmarks.figures import Figure, of_pairs
from benchmarks.memory import LambdaContext, Payload, Protected, answer, payloads
from benchmarks.pairs import Batch, Subject, compare, summarised
from benchmarks.servers import valkey
from idemkit.adapters.ai import idempotent as idemkit_idempotent
from idemkit.backends.redis import RedisBackend

import retrysafe
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from benchmarks.servers import RedisServer

SECTION = "cache"
CALLS = 50
CONCURRENT = 64
BARE_GOAL = 1.35
PEER_GOALS = {"first": 1 / 1.7, "replay": 1 / 2.5}
IDEMKIT_GOAL = 2.0
WINDOW_MS = 3_600_000
CLAIM = (
    '{"status": "INPROGRESS", "expiration": 1795306257, "in_progress_expiration": 1795302687816, '
    '"owner": "0123456789abcdef0123456789abcdef", "attempt": 1}'
)
OUTCOME = (
    '{"data": "{\\"statusCode\\": 200, \\"count\\": 1, \\"text\\": \\"x\\", \\"nothing\\": null, \\"done\\": true}", '
    '"status": "COMPLETED", "expiration": 1795306257, "owner": "0123456789abcdef0123456789abcdef", "attempt": 1}'
)


def measure(rounds: int) -> Iterator[Figure]:
    with valkey() as server:
        yield from _sync_figures(server, rounds)
        yield from asyncio.run(_async_figures(server, max(3, rounds // 3)))


# --- one call after the other ------------------------------------------------------------------------------------


def _sync_figures(server: RedisServer, rounds: int) -> Iterator[Figure]:
    client = redis.Redis(host=server.host, port=server.port)
    ours = retrysafe.idempotent_function(
        answer, data_keyword_argument="data", persistence_store=CachePersistenceLayer(client=client)
    )
    theirs = peer.idempotent_function(
        answer,
        data_keyword_argument="data",
        persistence_store=peer.RedisCachePersistenceLayer(client=client),
        config=peer.config("", LambdaContext()),
    )
    recording = _Recording(host=server.host, port=server.port)
    recording.scripts = []
    through = retrysafe.idempotent_function(
        answer, data_keyword_argument="data", persistence_store=CachePersistenceLayer(client=recording)
    )
    subjects: dict[str, Protected] = {
        "ours": lambda data: ours(data=data),
        "Powertools": lambda data: theirs(data=data),
    }
    for phase, bare in (("first", _bare_first), ("replay", _bare_replay)):
        batches: dict[str, Subject] = {
            who: partial(_calls, client, protected, replayed=phase == "replay") for who, protected in subjects.items()
        }
        batches["bare commands"] = partial(bare, client)
        scripts = partial(_scripts, client, recording, lambda data: through(data=data), replayed=phase == "replay")
        for other, goal in (("bare commands", BARE_GOAL), ("Powertools", PEER_GOALS[phase])):
            pairs = compare(batches["ours"], batches[other], calls=CALLS, rounds=rounds, clock=time.perf_counter_ns)
            what = "first call" if phase == "first" else "replay"
            yield of_pairs(SECTION, f"{what}, redis-py", other, pairs, at_most=goal)
        pairs = compare(scripts, batches["bare commands"], calls=CALLS, rounds=rounds, clock=time.perf_counter_ns)
        yield of_pairs(SECTION, f"{what}, redis-py, only its scripts", "bare commands", pairs)
    client.close()
    recording.close()


def _calls(client: redis.Redis, protected: Protected, *, replayed: bool) -> Batch:
    client.flushall()
    given = payloads(CALLS)
    # Also a connection that is open, and scripts that are loaded.
    for payload in given if replayed else payloads(1):
        protected({**payload, "id": -1} if not replayed else payload)
    return partial(_each, protected, given)


def _each(protected: Callable[[Payload], Any], given: list[Payload]) -> None:
    for payload in given:
        protected(payload)


class _Recording(redis.Redis):
    """Remembers the scripts that it was told to run."""

    scripts: list[tuple[Any, ...]]

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "EVALSHA":
            self.scripts.append(args)
        return super().execute_command(*args, **options)


def _scripts(client: redis.Redis, recording: _Recording, protected: Protected, *, replayed: bool) -> Batch:
    """What such calls send, sent again by itself."""
    calls = _calls(client, protected, replayed=replayed)
    recording.scripts = []
    calls()
    if not replayed:
        client.flushdb()
    execute, commands = client.execute_command, recording.scripts

    def batch() -> None:
        for command in commands:
            execute(*command)

    return batch


def _bare_first(client: redis.Redis) -> Batch:
    client.flushall()
    keys = _keys()

    def batch() -> None:
        for key in keys:
            client.set(key, CLAIM, nx=True, px=WINDOW_MS)
            client.set(key, OUTCOME, px=WINDOW_MS)

    return batch


def _bare_replay(client: redis.Redis) -> Batch:
    client.flushall()
    keys = _keys()
    for key in keys:
        client.set(key, OUTCOME, px=WINDOW_MS)

    def batch() -> None:
        for key in keys:
            client.get(key)

    return batch


def _keys() -> list[str]:
    return [f"test-func.benchmarks.memory.answer#{number:032x}" for number in range(CALLS)]


# --- many at the same time ---------------------------------------------------------------------------------------


async def _async_figures(server: RedisServer, rounds: int) -> list[Figure]:
    """The rate at 64 calls at once, beside idemkit on the same client."""
    client = redis.asyncio.Redis(host=server.host, port=server.port)
    warnings.simplefilter("ignore")  # idemkit warns that it has one tenant

    @retrysafe.idempotent_function(
        data_keyword_argument="data", persistence_store=AsyncCachePersistenceLayer(client=client)
    )
    async def ours(*, data: Payload) -> dict[str, Any]:
        return answer(data)

    @idemkit_idempotent(backend=RedisBackend(client), config=idemkit.MethodConfig(key_fields=["data"]))
    async def theirs(*, data: Payload) -> dict[str, Any]:
        return answer(data)

    figures = []
    numbers = itertools.count()
    for phase in ("first", "replay"):
        times = []
        for index in range(rounds + 2):
            pair = {}
            for protected in (ours, theirs) if index % 2 else (theirs, ours):
                given = [{**payload, "round": next(numbers)} for payload in payloads(CONCURRENT * 4)]
                if phase == "replay":
                    await _at_once(protected, given)
                pair[protected] = await _at_once(protected, given)
            if index > 1:
                times.append((pair[ours], pair[theirs]))
        figures.append(_rate(f"{phase if phase == 'replay' else 'first call'}, asyncio, {CONCURRENT} at once", times))
    await client.aclose()
    return figures


async def _at_once(protected: Callable[..., Awaitable[Any]], given: list[Payload]) -> float:
    waiting = iter(given)

    async def caller() -> None:
        for payload in waiting:
            await protected(data=payload)

    started = time.perf_counter_ns()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENT):
            group.create_task(caller())
    return (time.perf_counter_ns() - started) / len(given)


def _rate(what: str, times: list[tuple[float, float]]) -> Figure:
    return of_pairs(SECTION, f"{what}; value is a rate", "idemkit", summarised(times)).rate(at_least=IDEMKIT_GOAL)
