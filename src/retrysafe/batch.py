"""The front door for batches: a function over one item becomes one over many, at a few round trips for all of them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from retrysafe._batch.door import BatchDoor
from retrysafe._batch.results import BatchResult, ItemResult
from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.handler import awaitable_layer, opened_layer
from retrysafe.plan import plan_for
from retrysafe.serialization.base import serializer_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from retrysafe.checks import AnyLayer
    from retrysafe.config import IdempotencyConfig
    from retrysafe.idempotency import Serializer
    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer

__all__ = ["BatchResult", "ItemResult", "idempotent_batch"]

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

CLAIMED_AT_ONCE = 100
RECORD_AFTER_SECONDS = 0.1


class _Decorator(Protocol):
    @overload
    def __call__(  # type: ignore[overload-overlap]  # what a coroutine function returns is a coroutine, and not R
        self, function: Callable[Concatenate[T, P], Coroutine[Any, Any, R]], /
    ) -> Callable[Concatenate[Iterable[T], P], Coroutine[Any, Any, BatchResult[T, R]]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[T, P], R], /
    ) -> Callable[Concatenate[Iterable[T], P], BatchResult[T, R]]: ...


class _AsyncDecorator(Protocol):
    def __call__(
        self, function: Callable[Concatenate[T, P], Coroutine[Any, Any, R]], /
    ) -> Callable[Concatenate[Iterable[T], P], Coroutine[Any, Any, BatchResult[T, R]]]: ...


@overload
def idempotent_batch(
    function: None = None,
    *,
    persistence_store: BasePersistenceLayer | str,
    config: IdempotencyConfig | None = None,
    output_serializer: Serializer | None = None,
    key_prefix: str | None = None,
    key: Callable[[Any], Any] | None = None,
    item_identifier: Callable[[Any], str] | None = None,
    concurrency: int = 1,
    claimed_at_once: int = CLAIMED_AT_ONCE,
    record_after_seconds: float = RECORD_AFTER_SECONDS,
    stop_at_failure: bool = False,
) -> _Decorator: ...
@overload
def idempotent_batch(
    function: None = None,
    *,
    persistence_store: AsyncBasePersistenceLayer,
    config: IdempotencyConfig | None = None,
    output_serializer: Serializer | None = None,
    key_prefix: str | None = None,
    key: Callable[[Any], Any] | None = None,
    item_identifier: Callable[[Any], str] | None = None,
    concurrency: int = 1,
    claimed_at_once: int = CLAIMED_AT_ONCE,
    record_after_seconds: float = RECORD_AFTER_SECONDS,
    stop_at_failure: bool = False,
) -> _AsyncDecorator: ...
@overload
def idempotent_batch(  # type: ignore[overload-overlap]  # as in `_Decorator`
    function: Callable[Concatenate[T, P], Coroutine[Any, Any, R]],
    *,
    persistence_store: AnyLayer | str,
    config: IdempotencyConfig | None = None,
    output_serializer: Serializer | None = None,
    key_prefix: str | None = None,
    key: Callable[[T], Any] | None = None,
    item_identifier: Callable[[T], str] | None = None,
    concurrency: int = 1,
    claimed_at_once: int = CLAIMED_AT_ONCE,
    record_after_seconds: float = RECORD_AFTER_SECONDS,
    stop_at_failure: bool = False,
) -> Callable[Concatenate[Iterable[T], P], Coroutine[Any, Any, BatchResult[T, R]]]: ...
@overload
def idempotent_batch(
    function: Callable[Concatenate[T, P], R],
    *,
    persistence_store: BasePersistenceLayer | str,
    config: IdempotencyConfig | None = None,
    output_serializer: Serializer | None = None,
    key_prefix: str | None = None,
    key: Callable[[T], Any] | None = None,
    item_identifier: Callable[[T], str] | None = None,
    concurrency: int = 1,
    claimed_at_once: int = CLAIMED_AT_ONCE,
    record_after_seconds: float = RECORD_AFTER_SECONDS,
    stop_at_failure: bool = False,
) -> Callable[Concatenate[Iterable[T], P], BatchResult[T, R]]: ...
def idempotent_batch(
    function: Any = None,
    *,
    persistence_store: AnyLayer | str,
    config: IdempotencyConfig | None = None,
    output_serializer: Serializer | None = None,
    key_prefix: str | None = None,
    key: Callable[[Any], Any] | None = None,
    item_identifier: Callable[[Any], str] | None = None,
    concurrency: int = 1,
    claimed_at_once: int = CLAIMED_AT_ONCE,
    record_after_seconds: float = RECORD_AFTER_SECONDS,
    stop_at_failure: bool = False,
) -> Any:
    """Make a function over one item one over a batch of them: each item runs once per idempotency key.

    ```python
    @idempotent_batch(persistence_store=store, config=IdempotencyConfig(event_key_jmespath="order_id"))
    def charge(order): ...


    result = charge(orders)
    ```

    Each item is a call of its own, as of `idempotent_function`, with the same keys, rules, events and errors; the item
    is its payload. What differs is the traffic: keys are claimed together, and outcomes recorded together. So a process
    that dies leaves up to `claimed_at_once` keys claimed until their leases end; and what it had not recorded is run
    again: what ended in its last `record_after_seconds`, beside what was running.

    Args:
        function: What runs for each item, sync or async: the item is its first argument, what else the caller passes
            follows. Left out when used as `@idempotent_batch(...)`. Of a class, pass the bound method.
        persistence_store: Where records are kept: a layer, or a URL (see `retrysafe.persistence`).
        config: The rules. Default: `IdempotencyConfig()`.
        output_serializer: How an answer becomes a dict and comes back, as in `idempotent_function`.
        key_prefix: What stands before `#` in keys. Default: Lambda's function name, module and qualname.
        key: Gives the value that makes an item's key, from the item. Default: the config's expression selects it.
        item_identifier: Gives what reports call an item. Default: the id of an SQS message, the sequence number of a
            record of Kinesis or of a DynamoDB stream, partition and offset of one of Kafka.
        concurrency: How many items of an async function are under way at the same time. Default: 1, one after the
            other in their order.
        claimed_at_once: How many keys are claimed together, and so ahead of what runs. Default: 100. Where leases can
            neither be renewed nor end with a Lambda invocation, it is `concurrency`.
        record_after_seconds: How long an outcome may wait to be recorded with others, in seconds. Default: 0.1. With 0
            each is recorded before the next item runs.
        stop_at_failure: Whether the items after one that failed are left out, for queues that keep an order. None then
            runs ahead of one that waits.

    Returns:
        A function over an iterable of items that returns a `BatchResult`; a coroutine function, if the function is one.

    Raises:
        IdempotencyConfigError: When decorating: the function, the layer and the options don't fit together. When
            called: what is given is no batch, or `item_identifier` fails on one of its items; nothing ran.
    """
    if function is None:
        return functools.partial(
            cast("Any", idempotent_batch),
            persistence_store=persistence_store,
            config=config,
            output_serializer=output_serializer,
            key_prefix=key_prefix,
            key=key,
            item_identifier=item_identifier,
            concurrency=concurrency,
            claimed_at_once=claimed_at_once,
            record_after_seconds=record_after_seconds,
            stop_at_failure=stop_at_failure,
        )
    from retrysafe.signatures import check_takes_item, is_async, show_batch  # noqa: PLC0415  # loads inspect

    store = opened_layer(persistence_store, function)
    serializer = serializer_for(output_serializer, function)
    plan = plan_for(function, store, config=config, serializer=serializer, key_prefix=key_prefix)
    check_takes_item(function)
    asynchronous = is_async(function)
    door = BatchDoor(
        plan,
        key=key,
        item_identifier=item_identifier,
        concurrency=concurrency,
        claimed_at_once=claimed_at_once,
        record_after_seconds=record_after_seconds,
        stop_at_failure=stop_at_failure,
    )
    if asynchronous:
        async_store = awaitable_layer(store)

        @functools.wraps(function)
        async def over_many_async(items: Iterable[Any], /, *args: Any, **kwargs: Any) -> BatchResult[Any, Any]:
            return await door.run_async(items, async_store, function, args, kwargs)

        show_batch(over_many_async, BatchResult)
        return over_many_async
    if concurrency != 1:
        raise IdempotencyConfigError(f"concurrency={concurrency!r} is for `async def`; {plan.function_name} is sync")
    sync_store = cast("BasePersistenceLayer", store)  # plan_for has refused the other kind

    @functools.wraps(function)
    def over_many(items: Iterable[Any], /, *args: Any, **kwargs: Any) -> BatchResult[Any, Any]:
        return door.run(items, sync_store, function, args, kwargs)

    show_batch(over_many, BatchResult)
    return over_many
