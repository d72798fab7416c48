"""Batches of 500 messages, and of 10: `idempotent_batch` beside `idempotent_function`, called for one after the other.

Rates are compared: batched / one by one. All messages are new, and what they do is nothing, so that only the traffic
with the store is timed, on the wall; each round times the one and then the other. A server on the same machine answers
sooner than any other does, and takes a processor away from its client; "away" puts it at the distance of a machine in
the same data centre. DynamoDB Local is a Java program, which becomes several times as quick while it runs: rounds go by
before it is timed.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import redis
import redis.asyncio
from benchmarks.distance import away
from benchmarks.figures import Figure, of_pairs
from benchmarks.pairs import Comparison, compare, summarised
from benchmarks.servers import dynamodb_local, valkey

import retrysafe
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.persistence.sqlite import SQLitePersistenceLayer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.servers import RedisServer

SECTION = "batches"
MANY = 500
FEW = 10
CACHE_GOAL = 8.0
DYNAMODB_GOAL = 4.0
CACHE_AWAY = 0.0005  # seconds
DYNAMODB_AWAY = 0.004
DYNAMODB_UNTIMED = 5  # rounds, beside those that no comparison counts
NUMBERS = itertools.count()


def measure(rounds: int) -> Iterator[Figure]:
    fewer = max(3, rounds // 10)
    with valkey() as server:
        yield from _cache_figures(server, server.port, "Valkey", fewer)
        yield asyncio.run(_async_figure(server, fewer))
        with away(server.host, server.port, CACHE_AWAY) as port:
            yield from _cache_figures(server, port, f"Valkey {CACHE_AWAY * 1000} ms away", fewer)
    yield from _dynamodb_figures(max(3, rounds // 10))
    with tempfile.TemporaryDirectory() as folder:
        for synchronous in ("full", "off"):
            with SQLitePersistenceLayer(Path(folder) / f"{synchronous}.db", synchronous=synchronous) as layer:
                yield _figure(layer, f'SQLite, synchronous="{synchronous}"', MANY, fewer)


def _cache_figures(server: RedisServer, port: int, name: str, rounds: int) -> Iterator[Figure]:
    with redis.Redis(host=server.host, port=port) as client:
        layer = CachePersistenceLayer(client=client)
        yield _figure(layer, name, MANY, rounds, CACHE_GOAL)
        yield _figure(layer, name, FEW, 5 * rounds)


def _dynamodb_figures(rounds: int) -> Iterator[Figure]:
    with dynamodb_local() as server:
        server.create_table("benchmarks")
        with away(server.host, server.port, DYNAMODB_AWAY) as port:
            for name, at in (
                ("DynamoDB Local", server.port),
                (f"DynamoDB Local {DYNAMODB_AWAY * 1000:.0f} ms away", port),
            ):
                place = server.client_arguments | {"endpoint_url": f"http://{server.host}:{at}"}
                layer = DynamoDBPersistenceLayer("benchmarks", boto3_client=boto3.client("dynamodb", **place))
                if at == server.port:
                    _figure(layer, name, MANY, DYNAMODB_UNTIMED)
                yield _figure(layer, name, MANY, rounds, DYNAMODB_GOAL)
                yield _figure(layer, name, FEW, 5 * rounds)


def _messages(count: int) -> list[dict[str, Any]]:
    return [{"id": next(NUMBERS), "amount": 10, "currency": "EUR"} for _ in range(count)]


def _work(message: dict[str, Any]) -> dict[str, Any]:
    return {"charged": message["amount"], "message": message["id"]}


async def _work_async(message: dict[str, Any]) -> dict[str, Any]:
    return _work(message)


def _figure(layer: Any, name: str, count: int, rounds: int, goal: float | None = None) -> Figure:
    batched = retrysafe.idempotent_batch(_work, persistence_store=layer)
    one = retrysafe.idempotent_function(_work, persistence_store=layer)

    def each(messages: list[dict[str, Any]]) -> None:
        for message in messages:
            one(message)

    batched(_messages(FEW))  # connects
    pairs = compare(
        lambda: partial(batched, _messages(count)),
        lambda: partial(each, _messages(count)),
        calls=count,
        rounds=rounds,
        clock=time.perf_counter_ns,
    )
    return _rate(f"{count} messages, {name}", pairs, goal)


async def _async_figure(server: RedisServer, rounds: int) -> Figure:
    times: list[tuple[float, float]] = []
    async with redis.asyncio.Redis(host=server.host, port=server.port) as client:
        layer = AsyncCachePersistenceLayer(client=client)
        batched = retrysafe.idempotent_batch(_work_async, persistence_store=layer)
        one = retrysafe.idempotent_function(_work_async, persistence_store=layer)
        await batched(_messages(FEW))  # connects
        for _ in range(rounds):
            messages, others = _messages(MANY), _messages(MANY)
            started = time.perf_counter_ns()
            await batched(messages)
            between = time.perf_counter_ns()
            for message in others:
                await one(message)
            ended = time.perf_counter_ns()
            times.append(((between - started) / MANY, (ended - between) / MANY))
    return _rate(f"{MANY} messages, Valkey, async", summarised(times), None)


def _rate(what: str, pairs: Comparison, goal: float | None) -> Figure:
    figure = of_pairs(SECTION, what, "one by one", pairs)
    return figure.rate(at_least=goal)
