"""Layers that stand before the store in a crash test: each operation is two points, and a dead call gets nothing done.

They keep no records. One pair belongs to one life, and what it hands on goes to the store that outlives it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.handler import awaitable_layer
from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.many import Operation, Outcome
    from retrysafe.testing._crash.life import Life


class LifeLayer(BasePersistenceLayer):
    """For synchronous functions.

    Args:
        life: The life whose calls come here.

    Raises:
        IdempotencyConfigError: The life's store is asynchronous.
    """

    reachable_by_others: ClassVar[bool] = False
    blocking: ClassVar[bool] = False

    def __init__(self, life: Life) -> None:
        if not isinstance(life.layer, BasePersistenceLayer):
            raise IdempotencyConfigError(
                "make_layer made an asynchronous layer, and a synchronous function is called: make a synchronous one, "
                "which serves both"
            )
        super().__init__(clock=life.layer.clock)
        self._life = life
        self._layer = life.layer

    @property
    def can_renew(self) -> bool:
        """Whether the store can move a lease on."""
        return self._layer.can_renew

    def _get_record(self, idempotency_key: str) -> DataRecord:
        with self._life.operation("get"):
            return self._layer._get_record(idempotency_key)

    def _put_record(self, data_record: DataRecord) -> None:
        with self._life.operation("put", data_record):
            self._layer._put_record(data_record)

    def _update_record(self, data_record: DataRecord) -> None:
        with self._life.operation("update", data_record):
            self._layer._update_record(data_record)

    def _delete_record(self, data_record: DataRecord) -> None:
        with self._life.operation("delete", data_record):
            self._layer._delete_record(data_record)

    def _renew_record(self, data_record: DataRecord) -> None:
        # No point: when a heartbeat comes, no run repeats.
        self._life.refuse_renewal()
        self._layer._renew_record(data_record)


class AsyncLifeLayer(AsyncBasePersistenceLayer):
    """`LifeLayer` for asynchronous functions; the store may be of either kind."""

    reachable_by_others: ClassVar[bool] = False

    def __init__(self, life: Life) -> None:
        super().__init__(clock=life.layer.clock)
        self._life = life
        self._layer = awaitable_layer(life.layer)

    @property
    def can_renew(self) -> bool:
        """Whether the store can move a lease on."""
        return self._layer.can_renew

    async def _get_record(self, idempotency_key: str) -> DataRecord:
        with self._life.operation("get"):
            return await self._layer._get_record(idempotency_key)

    async def _put_record(self, data_record: DataRecord) -> None:
        with self._life.operation("put", data_record):
            await self._layer._put_record(data_record)

    async def _update_record(self, data_record: DataRecord) -> None:
        with self._life.operation("update", data_record):
            await self._layer._update_record(data_record)

    async def _delete_record(self, data_record: DataRecord) -> None:
        with self._life.operation("delete", data_record):
            await self._layer._delete_record(data_record)

    async def _renew_record(self, data_record: DataRecord) -> None:
        self._life.refuse_renewal()
        await self._layer._renew_record(data_record)

    async def _for_each(self, operation: Operation, arguments: Sequence[Any]) -> list[Outcome]:
        # One after the other, so that each run passes the points in the same order.
        outcomes: list[Outcome] = []
        for argument in arguments:
            outcomes += await super()._for_each(operation, [argument])
        return outcomes
