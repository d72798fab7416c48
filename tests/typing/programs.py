"""What the type checkers make of users' programs: methods, generics, hooks, layers and tests of their own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypedDict, TypeVar, assert_type

from retrysafe import (
    AsyncBasePersistenceLayer,
    AsyncMemoryPersistenceLayer,
    BasePersistenceLayer,
    BatchResult,
    DataRecord,
    IdempotencyConfig,
    IdempotentHookFunction,
    ItemResult,
    MemoryPersistenceLayer,
    async_layer_from_url,
    current_execution,
    idempotent,
    idempotent_batch,
    idempotent_block,
    idempotent_function,
    layer_from_url,
)
from retrysafe.base import AsyncIdempotencyHandler, IdempotencyHandler
from retrysafe.events import IdempotencyEvent, TakenOver
from retrysafe.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
)
from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer, SQLitePersistenceLayer
from retrysafe.serialization.custom_dict import CustomDictSerializer
from retrysafe.serialization.dataclass import DataclassSerializer
from retrysafe.serialization.pydantic import PydanticSerializer
from retrysafe.testing import FailingLayer, ManualClock, PersistenceLayerContract, idempotency_disabled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

store, async_store = MemoryPersistenceLayer(), AsyncMemoryPersistenceLayer()


# --- methods, generics, decorators that decorate ----------------------------------------------------------------------


class Context(Protocol):
    def get_remaining_time_in_millis(self) -> int: ...


class Shop:
    @idempotent_function(persistence_store=store)
    def pay(self, order: int, *, note: str = "") -> str:
        return f"{order}{note}"

    @idempotent_function(persistence_store=async_store)
    async def pay_async(self, order: int) -> str:
        return f"{order}"

    @classmethod
    @idempotent_function(persistence_store=store)
    def of_class(cls, order: int) -> str:
        return f"{order}"

    @staticmethod
    @idempotent_function(persistence_store=store)
    def static(order: int) -> str:
        return f"{order}"

    @idempotent(persistence_store=store)
    def handler(self, event: dict[str, Any], context: Context) -> int:
        return len(event) + context.get_remaining_time_in_millis()

    def each(self, order: int) -> str:
        return f"{order}"

    async def each_async(self, order: int) -> str:
        return f"{order}"


def in_a_shop(shop: Shop, context: Context) -> None:
    assert_type(shop.pay(1, note="x"), str)
    assert_type(Shop.pay(shop, 1), str)
    assert_type(Shop.of_class(1), str)
    assert_type(shop.of_class(1), str)
    assert_type(Shop.static(1), str)
    assert_type(shop.handler({}, context), int)
    assert_type(idempotent_batch(shop.each, persistence_store=store)([1]), BatchResult[int, str])
    shop.pay("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    shop.pay(1, "x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Shop.of_class("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def in_an_async_shop(shop: Shop) -> None:
    assert_type(await shop.pay_async(1), str)
    task: asyncio.Task[str] = asyncio.create_task(shop.pay_async(1))
    assert_type(await task, str)
    assert_type(await asyncio.gather(shop.pay_async(1), shop.pay_async(2)), tuple[str, str])
    assert_type(await idempotent_batch(shop.each_async, persistence_store=async_store)([1]), BatchResult[int, str])
    assert_type(await idempotent_batch(shop.each_async, persistence_store="memory://")([1]), BatchResult[int, str])


@idempotent_function(persistence_store=store)
def first(items: list[T]) -> T:
    return items[0]


assert_type(first([1]), int)
assert_type(first(["a"]), str)


class Repository(Generic[T]):
    @idempotent_function(persistence_store=store)
    def get(self, key: str) -> T:
        raise KeyError(key)


assert_type(Repository[int]().get("x"), int)


def ours(function: Callable[P, R]) -> Callable[P, R]:
    return idempotent_function(function, persistence_store=store)


def ours_async(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    return idempotent_function(function, persistence_store=async_store)


@ours
def by_ours(order: int) -> str:
    return f"{order}"


@ours_async
async def by_ours_async(order: int) -> bytes:
    return bytes(order)


class Callables:
    def __call__(self, order: int) -> str:
        return f"{order}"


assert_type(by_ours(1), str)
assert_type(idempotent_function(Callables(), persistence_store=store, key_prefix="object")(1), str)
shared = idempotent_function(persistence_store=store)


@shared
def by_shared(order: int) -> str:
    return f"{order}"


@shared
async def by_shared_async(order: int) -> bytes:
    return bytes(order)


async def awaited() -> None:
    assert_type(await by_ours_async(1), bytes)
    assert_type(await by_shared_async(1), bytes)


handlers: dict[str, Callable[[int], str]] = {"ours": by_ours, "shared": by_shared}

idempotent_function(store)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
idempotent_function(persistence_store=store, key=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


@idempotent(persistence_store=async_store)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def sync_handler(event: dict[str, Any], context: Context) -> int:
    return len(event)


# --- config, hooks, serializers ---------------------------------------------------------------------------------------


def hook(response: Any, idempotent_data: DataRecord) -> Any:
    return response, idempotent_data.attempt


def heard(event: IdempotencyEvent) -> None:
    if isinstance(event, TakenOver):
        assert_type(event.previous_owner, str | None)


typed_hook: IdempotentHookFunction = hook
config = IdempotencyConfig(response_hook=hook, event_hook=heard, replay_exceptions=[ValueError], jmespath_options={})
IdempotencyConfig(response_hook=lambda answer, _record: answer, replay_exceptions=(ValueError, KeyError))
assert_type(IdempotencyConfig(replay_exceptions=ValueError).replay_exceptions, tuple[type[Exception], ...])
assert_type(config.expires_after_seconds, int)
# A config is fixed once made.
config.expires_after_seconds = 5  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
IdempotencyConfig(replay_exceptions=[KeyboardInterrupt])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
IdempotencyConfig(response_hook=lambda answer: answer)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportUnknownLambdaType]
IdempotencyConfig(expires_after_seconds=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
IdempotencyConfig(expire=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@dataclass
class Receipt:
    number: int


def receipt_of(given: dict[Any, Any]) -> Receipt:
    return Receipt(**given)


def dict_of(receipt: Receipt) -> dict[str, int]:
    return {"number": receipt.number}


idempotent_function(persistence_store=store, output_serializer=DataclassSerializer)
idempotent_function(persistence_store=store, output_serializer=PydanticSerializer)
idempotent_function(persistence_store=store, output_serializer=DataclassSerializer(Receipt))
idempotent_function(persistence_store=store, output_serializer=CustomDictSerializer(dict_of, receipt_of))
idempotent_function(persistence_store=store, output_serializer=Receipt)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
idempotent_function(persistence_store=store, output_serializer=CustomDictSerializer)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]


# --- handlers, blocks, batches, errors --------------------------------------------------------------------------------

IdempotencyHandler(by_ours, {"id": 1}, IdempotencyConfig(), store, function_args=(1,), function_kwargs={}).handle()
IdempotencyHandler(by_ours, 1, IdempotencyConfig(), async_store)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
IdempotencyHandler(by_ours, 1, IdempotencyConfig(), "memory://")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def with_either(layer: BasePersistenceLayer | AsyncBasePersistenceLayer) -> None:
    idempotent_block({"id": 1}, key_prefix="p", persistence_store=layer)
    AsyncIdempotencyHandler(by_ours_async, 1, IdempotencyConfig(), layer)


def in_a_block() -> None:
    with idempotent_block({"id": 1}, key_prefix="p", persistence_store=store) as block:
        if block.is_first:
            block.answer = 5
        block.is_first = True  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    with store as same:
        assert_type(same, MemoryPersistenceLayer)
    with SQLitePersistenceLayer("x.db") as opened:
        assert_type(opened, SQLitePersistenceLayer)
    assert_type(layer_from_url("memory://"), BasePersistenceLayer)
    assert_type(async_layer_from_url("memory://"), AsyncBasePersistenceLayer)
    idempotent_block(1, persistence_store=store)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    idempotent_block(1, key_prefix="p", persistence_store="memory://")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def in_an_async_block() -> None:
    async with AsyncSQLitePersistenceLayer("x.db") as opened:
        assert_type(opened, AsyncSQLitePersistenceLayer)


class Order(TypedDict):
    id: str


@idempotent_batch(persistence_store=store, item_identifier=lambda order: order["id"])
def ship(order: Order) -> int:
    return len(order["id"])


def batch_handler(event: Mapping[str, Any], context: Context) -> dict[str, list[dict[str, str]]]:
    config.register_lambda_context(context)
    for each in ship(event["Records"]):
        assert_type(each, ItemResult[Order, int])
        assert_type(each.error, BaseException | None)
    return ship(event["Records"]).batch_item_failures()


@idempotent_batch(persistence_store=store)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
def ship_nothing() -> int:
    return 1


try:
    by_ours(1)
except IdempotencyAlreadyInProgressError as error:
    assert_type(error.retry_after, float | None)
    assert_type(error.record, DataRecord | None)
    assert_type(error.owner, str | None)


# --- layers and tests of one's own ------------------------------------------------------------------------------------


class OwnLayer(BasePersistenceLayer):
    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, DataRecord] = {}

    def _get_record(self, idempotency_key: str) -> DataRecord:
        raise IdempotencyItemNotFoundError

    def _put_record(self, data_record: DataRecord) -> None:
        found = self.records.get(data_record.idempotency_key)
        if found is not None and not found.window_over(self.clock.now_ms()):
            raise IdempotencyItemAlreadyExistsError(old_data_record=found)

    def _update_record(self, data_record: DataRecord) -> None: ...
    def _delete_record(self, data_record: DataRecord) -> None: ...


class OwnAsyncLayer(AsyncBasePersistenceLayer):
    async def _get_record(self, idempotency_key: str) -> DataRecord:
        raise IdempotencyItemNotFoundError

    async def _put_record(self, data_record: DataRecord) -> None: ...
    async def _update_record(self, data_record: DataRecord) -> None: ...
    async def _delete_record(self, data_record: DataRecord) -> None: ...


class Mistaken(OwnLayer):
    async def _put_record(self, data_record: DataRecord) -> None: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]


class TestOwnLayer(PersistenceLayerContract):
    def make_layer(self, clock: ManualClock) -> OwnLayer:
        clock.advance(0)
        return OwnLayer()


class TestOwnAsyncLayer(PersistenceLayerContract):
    async def make_layer(self, clock: ManualClock) -> OwnAsyncLayer:
        clock.advance(0)
        return OwnAsyncLayer()


@idempotency_disabled()
async def test_without() -> None:
    with idempotency_disabled():
        await by_shared_async(1)


FailingLayer(store).fail("put", call=1, applied=True, error=ValueError)
FailingLayer(store).fail("nope")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FailingLayer(async_store)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(current_execution().key_for("x"), str)
current_execution().key_for(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
