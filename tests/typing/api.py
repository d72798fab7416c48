"""What the type checkers make of the public surface; mypy and pyright both read this file, nobody runs it."""

from __future__ import annotations

from typing import Any, assert_type

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    BatchResult,
    Execution,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    current_execution,
    idempotent,
    idempotent_batch,
    idempotent_block,
    idempotent_function,
)
from retrysafe.persistence.cache import (
    AsyncCachePersistenceLayer,
    CacheClientProtocol,
    CacheConnection,
    CachePersistenceLayer,
)
from retrysafe.persistence.redis import (
    AsyncRedisCachePersistenceLayer,
    RedisCachePersistenceLayer,
    RedisClientProtocol,
    RedisConnection,
)
from retrysafe.testing import CrashPoint, CrashReport, crash_points

sync_layer = MemoryPersistenceLayer()
async_layer = AsyncMemoryPersistenceLayer()


@idempotent_function(data_keyword_argument="order", persistence_store=sync_layer)
def charge(order: dict[str, int], *, note: str = "") -> int:
    assert_type(current_execution(), Execution)
    return order["amount"] + len(note)


assert_type(charge({"amount": 1}), int)
assert_type(charge(order={"amount": 1}, note="x"), int)
charge("order")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
charge({"amount": 1}, memo="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@idempotent_function(persistence_store=async_layer, config=IdempotencyConfig(on_in_progress="wait"))
async def charge_async(order: dict[str, int]) -> str:
    return str(order)


@idempotent_function(persistence_store="sqlite:///x.db")
async def charge_async_by_url(order: int) -> str:
    return str(order)


@idempotent(persistence_store=sync_layer)
def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    return event | {"context": context}


async def in_a_loop() -> None:
    assert_type(await charge_async({"amount": 1}), str)
    assert_type(await charge_async_by_url(1), str)
    async with idempotent_block({"id": 1}, key_prefix="p", persistence_store=async_layer) as block:
        assert_type(block.is_first, bool)


def plain(n: int) -> str:
    return str(n)


assert_type(handler({}, None), dict[str, Any])
assert_type(idempotent_function(plain, persistence_store=sync_layer)(1), str)

# A sync function with an async layer is red in the editor, before it is refused when decorating.
idempotent_function(plain, persistence_store=async_layer)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
idempotent_function(persistence_store=async_layer)(plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
idempotent_function(plain, persistence_store=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
IdempotencyConfig(on_in_progress="block")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- caches -------------------------------------------------------------------------------------------------------


class Client:
    """The least that a cache's client must have."""

    def get(self, name: str) -> Any: ...
    def set(self, name: str, value: str, ex: int | None = None, px: int | None = None, nx: bool = False) -> Any: ...
    def delete(self, keys: str) -> Any: ...


client: CacheClientProtocol = Client()
same: RedisClientProtocol = client
assert_type(CachePersistenceLayer(client=client), CachePersistenceLayer)
assert_type(RedisCachePersistenceLayer(host="h", port=6379, mode="cluster", ssl=False), CachePersistenceLayer)
assert_type(RedisConnection(url="redis://h").where, str)
assert_type(CacheConnection(host="h", port="6379"), CacheConnection)
assert_type(idempotent_function(plain, persistence_store=CachePersistenceLayer("redis://h"))(1), str)
CachePersistenceLayer(host="h", mode="nope")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@idempotent_function(persistence_store=AsyncRedisCachePersistenceLayer("redis://h", min_replicas=1))
async def charge_in_a_cache(order: int) -> str:
    return str(order)


idempotent_function(plain, persistence_store=AsyncCachePersistenceLayer("redis://h"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


def crash_reports(ledger: list[str]) -> None:
    report = crash_points(charge, {"amount": 1}, effects=ledger)
    assert_type(report, CrashReport)
    assert_type(report.problems, tuple[CrashPoint, ...])
    crash_points(charge_async, {"amount": 1}, effects=lambda: len(ledger), before_each=ledger.clear)
    crash_points(charge, {"amount": 1})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    crash_points(charge, effects=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@idempotent_batch(persistence_store=sync_layer)
def charge_each(order: dict[str, int], note: str = "") -> int:
    return order["amount"] + len(note)


charged = charge_each([{"amount": 1}], note="x")
assert_type(charged, BatchResult[dict[str, int], int])
assert_type(charged[0].answer, int | None)
assert_type(charged[0].item, dict[str, int])
charge_each({"amount": 1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


@idempotent_batch(persistence_store="sqlite:///x.db", concurrency=3)
async def charge_each_async(order: int) -> str:
    return str(order)


async def charge_all() -> None:
    assert_type(await charge_each_async(range(3)), BatchResult[int, str])


def length(word: str) -> int:
    return len(word)


assert_type(idempotent_batch(length, persistence_store=sync_layer)(["a"]), BatchResult[str, int])


@idempotent_batch(persistence_store=async_layer)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
def charge_each_by_an_async_layer(order: int) -> str:
    return str(order)
