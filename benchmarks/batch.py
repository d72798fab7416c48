"""Batches of 500 messages, and of 10: `idempotent_batch` beside `idempotent_function` called for one after the other.

Rates are compared: batched / one by one. All messages are new, and what they do is nothing, so that only the traffic
with the store is timed, on the wall. DynamoDB Local answers at once and takes a processor for it; behind a delay of
4 ms, as between two machines of a region, it shows what a batch saves there.
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
from benchmarks.figures import Figure, of_pairs
from benchmarks.pairs import Batch, compare, summarised
from benchmarks.servers import dynamodb_local, valkey

import retrysafe
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.persistence.sqlite import SQLitePersistenceLayer

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTION = "batches"
MESSAGES = 500
FEW = 10
REDIS_GOAL = 8.0
DYNAMODB_GOAL = 4.0
DELAY_SECONDS = 0.004
NUMBERS = itertools.count()


def measure(rounds: int) -> Iterator[Figure]:
    fewer = max(3, rounds // 10)
    with valkey() as server, redis.Redis(host=server.host, port=server.port) as client:
        layer = CachePersistenceLayer(client=client)
        yield _figure(layer, "redis-py", MESSAGES, fewer, REDIS_GOAL)
        yield _figure(layer, "redis-py", FEW, rounds)
        yield asyncio.run(_async_figure(server, fewer))
    with dynamodb_local() as server:
        server.create_table("benchmarks")
        client = boto3.client("dynamodb", **server.client_arguments)
        layer = DynamoDBPersistenceLayer("benchmarks", boto3_client=client)
        yield _figure(layer, "DynamoDB Local", MESSAGES, 3, DYNAMODB_GOAL)
    with tempfile.TemporaryDirectory() as folder:
        for synchronous in ("full", "off"):
            layer = SQLitePersistenceLayer(Path(folder) / f"{synchronous}.db", synchronous=synchronous)
            yield _figure(layer, f'SQLite, synchronous="{synchronous}"', MESSAGES, fewer)
            layer.close()


def _messages(count: int) -> list[dict[str, Any]]:
    return [{"id": next(NUMBERS), "amount": 10, "currency": "EUR"} for _ in range(count)]


def _work(message: dict[str, Any]) -> dict[str, Any]:
    return {"charged": message["amount"], "message": message["id"]}


def _figure(layer: Any, name: str, count: int, rounds: int, goal: float | None = None) -> Figure:
    batched = retrysafe.idempotent_batch(_work, persistence_store=layer)
    one = retrysafe.idempotent_function(_work, persistence_store=layer)

    def together() -> Batch:
        return partial(batched, _messages(count))

    def one_by_one() -> Batch:
        return partial(_each, one, _messages(count))

    pairs = compare(together, one_by_one, calls=count, rounds=rounds, clock=time.perf_counter_ns)
    return _rate(f"{count} messages, {name}", pairs, goal)


def _each(one: Any, messages: list[dict[str, Any]]) -> None:
    for message in messages:
        one(message)


async def _async_figure(server: Any, rounds: int) -> Figure:
    async def work(message: dict[str, Any]) -> dict[str, Any]:
        return _work(message)

    async with redis.asyncio.Redis(host=server.host, port=server.port) as client:
        layer = AsyncCachePersistenceLayer(client=client)
        batched = retrysafe.idempotent_batch(work, persistence_store=layer, key_prefix="work")
        one = retrysafe.idempotent_function(work, persistence_store=layer, key_prefix="work")
        times = []
        for number in range(rounds + 1):
            messages = _messages(MESSAGES)
            started = time.perf_counter_ns()
            await batched(messages)
            between, others = time.perf_counter_ns(), _messages(MESSAGES)
            resumed = time.perf_counter_ns()
            for message in others:
                await one(message)
            ended = time.perf_counter_ns()
            if number:  # the first round connects
                times.append(((between - started) / MESSAGES, (ended - resumed) / MESSAGES))
    return _rate(f"{MESSAGES} messages, redis-py, async", summarised(times), REDIS_GOAL)


def _rate(what: str, pairs: Any, goal: float | None) -> Figure:
    return of_pairs(SECTION, what, "one by one", pairs).rate(at_least=0.0 if goal is None else goal)
