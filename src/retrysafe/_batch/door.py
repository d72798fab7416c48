"""A call of an `idempotent_batch` function: each item becomes a call, all are carried out, and each is reported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from retrysafe import switch
from retrysafe._batch.results import BatchResult, ItemResult, identified
from retrysafe.call import begin_call
from retrysafe.checks import check_key
from retrysafe.config import LONGEST_SECONDS
from retrysafe.exceptions import IdempotencyAlreadyInProgressError, IdempotencyConfigError
from retrysafe.wishes import Raised, Returned

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe._batch.item import Item
    from retrysafe._batch.results import Identifier, Status
    from retrysafe._batch.state import Batch
    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
    from retrysafe.plan import Plan


# What can be iterated over, and is an item or an event all the same; so is a pydantic model, which gives its fields.
_ITEMS = (str, bytes, bytearray, memoryview, Mapping)


class BatchDoor:
    """What is decided when decorating, and what follows from it for one batch.

    Args:
        plan: What holds for the function.
        key: Makes an item's key, or None.
        item_identifier: Tells what reports call an item, or None.
        concurrency: How many items may run at the same time.
        claimed_at_once: How many keys may be claimed ahead of what runs.
        record_after_seconds: For how long an outcome may wait for others.
        stop_at_failure: Whether the items behind one that failed are left out.

    Raises:
        IdempotencyConfigError: An option is wrong.
    """

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
        from retrysafe.signatures import checked_function  # noqa: PLC0415  # loads inspect, for decorating alone

        check_key(key, "item", plan.config)
        if item_identifier is not None:
            checked_function("item_identifier", item_identifier, "item")
        numbers: tuple[tuple[str, object], ...] = (("concurrency", concurrency), ("claimed_at_once", claimed_at_once))
        for name, number in numbers:
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise IdempotencyConfigError(f"{name} must be a whole number from 1; it is {number!r}")
        seconds: object = record_after_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_SECONDS:
            raise IdempotencyConfigError(
                f"record_after_seconds must be a number of seconds from 0 to {LONGEST_SECONDS}; it is {seconds!r}"
            )
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
        from retrysafe._batch.drivers import BatchRun  # noqa: PLC0415  # needed by batches alone

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

        from retrysafe._batch.drivers_async import AsyncBatchRun  # noqa: PLC0415  # needed by batches alone

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

    def _begun(self, items: Iterable[Any]) -> tuple[list[Any], list[Identifier | None], list[Item]]:
        given: object = items
        if not isinstance(given, Iterable) or isinstance(given, _ITEMS) or hasattr(given, "model_dump"):
            raise IdempotencyConfigError(
                f"{self._plan.function_name} takes a batch: an iterable of items, not {type(items).__name__}"
            )
        values = list(items)
        return values, identified(values, self._item_identifier), self._with_calls(values)

    def _with_calls(self, values: list[Any]) -> list[Item]:
        """The items, each with its call; what cannot make a key fails, alone."""
        from retrysafe._batch.item import Item  # noqa: PLC0415  # needed by batches alone

        if switch.is_off():
            return [Item(index, value, None) for index, value in enumerate(values)]
        plan, key = self._plan, self._key
        items: list[Item] = []
        for index, value in enumerate(values):
            try:
                call = begin_call(plan, value) if key is None else begin_call(plan, value, key=key(value))
            except Exception as error:  # noqa: BLE001  # of this item, whose payload it is
                items.append(Item(index, value, None, Raised(error)))
            else:
                items.append(Item(index, value, call))
        return items

    def _batch(self, items: list[Item], own_errors: tuple[type[BaseException], ...] = (Exception,)) -> Batch:
        from retrysafe._batch.state import Batch  # noqa: PLC0415  # needed by batches alone

        lease = self._plan.lease()
        most = self._claimed_at_once if lease.renews or lease.end_ms is not None else self._concurrency
        return Batch(items, most_claimed=most, stop_at_failure=self._stop_at_failure, own_errors=own_errors)


def _result(values: list[Any], identifiers: list[Identifier | None], items: list[Item]) -> BatchResult[Any, Any]:
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
