"""The ports of a batch: wishes of one kind as one call of a layer for all of them; failures become answers."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import IdempotencyInconsistentStateError
from retrysafe.persistence.many import form_for_many, one_by_one, side_by_side
from retrysafe.ports import AsyncPorts, SyncPorts, claim_refused, complete_refused, fetch_refused
from retrysafe.wishes import Claim, Complete, Fetch, Op, Release, StoreFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
    from retrysafe.persistence.many import Operation

_KINDS: Final[tuple[tuple[type[Op[Any]], Operation, Callable[[Any], Any], Callable[[BaseException], Any]], ...]] = (
    (Claim, "put", attrgetter("record"), claim_refused),
    (Fetch, "get", attrgetter("idempotency_key"), fetch_refused),
    (Complete, "update", attrgetter("record"), complete_refused),
    (Release, "delete", attrgetter("record"), StoreFailed),
)
"""For each kind of wish the method of the layer, what that takes, and what its refusal means."""


class BatchPorts:
    """Many wishes, as few calls of a synchronous layer."""

    __slots__ = ("_alone", "store")

    def __init__(self, store: BasePersistenceLayer) -> None:
        self.store = store
        self._alone = SyncPorts(store)

    def carry_out(self, wishes: Sequence[Op[Any]]) -> list[Any]:
        """The answers, in order."""
        answers: list[Any] = [None] * len(wishes)
        for operation, numbers, arguments, refused in _grouped(wishes):
            outcomes = self.for_each(operation, arguments)
            for number, outcome in zip(numbers, outcomes, strict=True):
                if outcome is None:
                    continue
                answer = refused(outcome) if isinstance(outcome, BaseException) else outcome
                answers[number] = self._untold(wishes[number]) if answer is None else answer
        return answers

    def for_each(self, operation: Operation, arguments: list[Any]) -> list[Any]:
        """What the layer's method gives or raises, for each."""
        try:
            return _counted(form_for_many(self.store, operation, one_by_one)(operation, arguments), arguments)
        except BaseException as error:  # noqa: BLE001  # becomes an answer
            return [error] * len(arguments)

    def _untold(self, op: Op[Any]) -> Any:
        """The answer where a refusal says nothing more: to a claim, what stands is asked for; to a look, None."""
        return self._alone.claim(op) if isinstance(op, Claim) else None


class AsyncBatchPorts:
    """Many wishes, as few awaited calls of an asynchronous layer."""

    __slots__ = ("_alone", "store")

    def __init__(self, store: AsyncBasePersistenceLayer) -> None:
        self.store = store
        self._alone = AsyncPorts(store)

    async def carry_out(self, wishes: Sequence[Op[Any]]) -> list[Any]:
        """The answers, in order."""
        answers: list[Any] = [None] * len(wishes)
        for operation, numbers, arguments, refused in _grouped(wishes):
            outcomes = await self.for_each(operation, arguments)
            for number, outcome in zip(numbers, outcomes, strict=True):
                if outcome is None:
                    continue
                answer = refused(outcome) if isinstance(outcome, BaseException) else outcome
                answers[number] = await self._untold(wishes[number]) if answer is None else answer
        return answers

    async def for_each(self, operation: Operation, arguments: list[Any]) -> list[Any]:
        """See `BatchPorts.for_each`."""
        try:
            outcomes: Awaitable[list[Any]] = form_for_many(self.store, operation, side_by_side)(operation, arguments)
            return _counted(await outcomes, arguments)
        except GeneratorExit:
            raise  # nothing may be awaited any more
        except BaseException as error:  # noqa: BLE001  # becomes an answer
            return [error] * len(arguments)

    async def _untold(self, op: Op[Any]) -> Any:
        return await self._alone.claim(op) if isinstance(op, Claim) else None


def _counted(outcomes: list[Any], arguments: list[Any]) -> list[Any]:
    """The outcomes, where it can be told which is whose: a layer may be anybody's."""
    if len(outcomes) != len(arguments):
        raise IdempotencyInconsistentStateError(
            f"the layer's _for_each gave {len(outcomes)} outcomes for {len(arguments)} records"
        )
    return outcomes


def _grouped(
    wishes: Sequence[Op[Any]],
) -> list[tuple[Operation, list[int], list[Any], Callable[[BaseException], Any]]]:
    groups: list[tuple[Operation, list[int], list[Any], Callable[[BaseException], Any]]] = []
    kinds = {type(op) for op in wishes}
    for kind, operation, argument, refused in _KINDS:
        if kind in kinds:
            numbers = [number for number, op in enumerate(wishes) if type(op) is kind]
            groups.append((operation, numbers, [argument(wishes[number]) for number in numbers], refused))
    return groups
