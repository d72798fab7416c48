"""The front door for batches: a function over one item becomes one over many, at a few round trips for all of them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from retrysafe import switch
from retrysafe.batch_results import BatchResult, ItemResult, identified
from retrysafe.exceptions import IdempotencyAlreadyInProgressError, IdempotencyConfigError
from retrysafe.handler import awaitable_layer, opened_layer
from retrysafe.plan import plan_for
from retrysafe.serialization.base import serializer_for
from retrysafe.wishes import Raised, Returned

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from retrysafe.batch_item import Item
    from retrysafe.batch_results import Status
    from retrysafe.batch_state import Batch
    from retrysafe.config import IdempotencyConfig
    from retrysafe.idempotency import Serializer
    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
    from retrysafe.plan import AnyLayer, Plan

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
            record of Kinesis or of a DynamoDB stream.
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
    from retrysafe.signatures import check_takes_item, is_async  # noqa: PLC0415  # loads inspect, for decorating alone

    store = opened_layer(persistence_store, function)
    serializer = None if output_serializer is None else serializer_for(output_serializer, function)
    plan = plan_for(function, store, config=config, serializer=serializer, key_prefix=key_prefix)
    check_takes_item(function)
    asynchronous = is_async(function)
    door = _Door(
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

        return over_many_async
    if concurrency != 1:
        raise IdempotencyConfigError(f"concurrency={concurrency!r} is for `async def`; {plan.function_name} is sync")
    sync_store = cast("BasePersistenceLayer", store)  # plan_for has refused the other kind

    @functools.wraps(function)
    def over_many(items: Iterable[Any], /, *args: Any, **kwargs: Any) -> BatchResult[Any, Any]:
        return door.run(items, sync_store, function, args, kwargs)

    return over_many


class _Door:
    """What is decided when decorating, and what follows from it for one batch."""

    def __init__(
        self,
        plan: Plan,
        *,
        key: Callable[[Any], Any] | None,
        item_identifier: Callable[[Any], str] | None,
        concurrency: int,
        claimed_at_once: int,
        record_after_seconds: float,
        stop_at_failure: bool,
    ) -> None:
        for name, function in (("key", key), ("item_identifier", item_identifier)):
            if function is not None and not callable(function):
                raise IdempotencyConfigError(f"{name} must be callable; it is {function!r}")
        if key is not None and plan.config.event_key_jmespath:
            raise IdempotencyConfigError(
                f"key and event_key_jmespath={plan.config.event_key_jmespath!r} both say what makes the key; give one"
            )
        numbers: tuple[tuple[str, object], ...] = (("concurrency", concurrency), ("claimed_at_once", claimed_at_once))
        for name, number in numbers:
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise IdempotencyConfigError(f"{name} must be a whole number from 1; it is {number!r}")
        seconds: object = record_after_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
            raise IdempotencyConfigError(f"record_after_seconds must be a number from 0; it is {seconds!r}")
        if not isinstance(stop_at_failure, bool):
            raise IdempotencyConfigError(f"stop_at_failure must be True or False; it is {stop_at_failure!r}")
        self._plan = plan
        self._key = key
        self._item_identifier = item_identifier
        self._concurrency = concurrency
        self._claimed_at_once = claimed_at_once
        self._record_after_seconds = record_after_seconds
        self._stop_at_failure = stop_at_failure

    def run(
        self,
        items: Iterable[Any],
        store: BasePersistenceLayer,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> BatchResult[Any, Any]:
        """Carry a batch out."""
        from retrysafe.batch_drivers import BatchRun  # noqa: PLC0415  # needed by batches alone

        values, identifiers, begun = self._begun(items)
        after = self._record_after_seconds
        BatchRun(self._batch(begun), store, function, args, kwargs, record_after_seconds=after).run()
        return _result(values, identifiers, begun)

    async def run_async(
        self,
        items: Iterable[Any],
        store: AsyncBasePersistenceLayer,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> BatchResult[Any, Any]:
        """Carry a batch out, awaiting its functions."""
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs

        from retrysafe.batch_drivers_async import AsyncBatchRun  # noqa: PLC0415  # needed by batches alone

        values, identifiers, begun = self._begun(items)
        # A function that ends in a cancellation of its own making has failed, and interrupts nobody.
        batch = self._batch(begun, (Exception, asyncio.CancelledError))
        await AsyncBatchRun(
            batch,
            store,
            function,
            args,
            kwargs,
            record_after_seconds=self._record_after_seconds,
            concurrency=self._concurrency,
        ).run()
        return _result(values, identifiers, begun)

    def _begun(self, items: Iterable[Any]) -> tuple[list[Any], list[str | None], list[Item]]:
        given: object = items
        if not isinstance(given, Iterable) or type(given) in (str, bytes, bytearray, dict):
            raise IdempotencyConfigError(
                f"{self._plan.function_name} takes a batch: an iterable of items, not {type(items).__name__}"
            )
        values = list(items)
        return values, identified(values, self._item_identifier), self._with_calls(values)

    def _with_calls(self, values: list[Any]) -> list[Item]:
        """The items, each with its call; what cannot make a key fails, alone."""
        from retrysafe.batch_item import Item  # noqa: PLC0415  # needed by batches alone

        if switch.is_off():
            return [Item(index, value, None) for index, value in enumerate(values)]
        begin, key = self._plan.begin, self._key
        items: list[Item] = []
        for index, value in enumerate(values):
            try:
                call = begin(value) if key is None else begin(value, key=key(value))
            except Exception as error:  # noqa: BLE001  # of this item, whose payload it is
                items.append(Item(index, value, None, Raised(error)))
            else:
                items.append(Item(index, value, call))
        return items

    def _batch(self, items: list[Item], own_errors: tuple[type[BaseException], ...] = (Exception,)) -> Batch:
        from retrysafe.batch_state import Batch  # noqa: PLC0415  # needed by batches alone

        lease = self._plan.lease()
        most = self._claimed_at_once if lease.renews or lease.end_ms is not None else self._concurrency
        return Batch(items, most_claimed=most, stop_at_failure=self._stop_at_failure, own_errors=own_errors)


def _result(values: list[Any], identifiers: list[str | None], items: list[Item]) -> BatchResult[Any, Any]:
    results: list[ItemResult[Any, Any]] = []
    for value, identifier, item in zip(values, identifiers, items, strict=True):
        # Taken, as the frames in an error's traceback hold the item: the two would hold each other.
        end, item.ending = item.ending, None
        status: Status = "not_run"
        answer: Any = None
        error: BaseException | None = None
        if isinstance(end, Returned):
            status, answer = ("returned" if item.has_run else "replayed"), end.value
        elif isinstance(end, Raised):
            held = isinstance(end.error, IdempotencyAlreadyInProgressError) and not item.has_run
            status, error = ("in_progress" if held else "raised"), end.error
        results.append(ItemResult(value, identifier, status, answer, error))
    return BatchResult(results)
