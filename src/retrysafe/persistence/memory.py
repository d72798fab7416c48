"""Records in this process's memory: for tests, for one process, and as the reference for every other layer."""

from __future__ import annotations

import os
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakValueDictionary

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
)
from retrysafe.locks import new_lock
from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
from retrysafe.persistence.datarecord import INPROGRESS

if TYPE_CHECKING:
    from retrysafe.clock import Clock
    from retrysafe.persistence.datarecord import DataRecord

# Twice as many as there are claims, so that what is over is never more than what lives. Not at every claim, since to
# begin costs as much as several looks.
CLAIMS_PER_SWEEP, SWEPT_AT_ONCE = 8, 16


class MemoryPersistenceLayer(BasePersistenceLayer):
    """Records in a dict behind a lock. They are gone with the process, and no other process sees them.

    Expired records are swept as keys are claimed: some claims look at a few records, so none is ever held up.

    Args:
        clock: What judges windows and leases. Default: the machine's.
    """

    reachable_by_others: ClassVar[bool] = False
    blocking: ClassVar[bool] = False

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self._records: OrderedDict[str, DataRecord] = OrderedDict()
        self._lock = new_lock()
        self._claims = 0
        _layers[id(self)] = self

    def _get_record(self, idempotency_key: str) -> DataRecord:
        record = self._records.get(idempotency_key)
        if record is None:
            raise IdempotencyItemNotFoundError("no record under this key", idempotency_key)
        return record

    def _peek_record(self, idempotency_key: str) -> DataRecord | None:
        return self._records.get(idempotency_key)

    def _put_record(self, data_record: DataRecord) -> None:
        key = data_record.idempotency_key
        with self._lock:
            standing = self._records.get(key)
            if (
                standing is None
                or standing.window_over(self.clock.now_ms())
                or (data_record.replaces is not None and standing.same_claim(data_record.replaces))
            ):
                self._records[key] = data_record
                self._claims += 1
                if self._claims % CLAIMS_PER_SWEEP == 0:
                    self._sweep(self.clock.now_ms())
                return
        raise IdempotencyItemAlreadyExistsError("a live record stands", key, old_data_record=standing)

    def _update_record(self, data_record: DataRecord) -> None:
        key = data_record.idempotency_key
        with self._lock:
            standing = self._records.get(key)
            if standing is None or standing.owner is None or standing.owner != data_record.owner:
                raise _lost(standing)
            self._records[key] = data_record

    def _delete_record(self, data_record: DataRecord) -> None:
        with self._lock:
            standing = self._records.get(data_record.idempotency_key)
            if standing is not None and _is_running(standing, data_record):
                del self._records[data_record.idempotency_key]

    def _renew_record(self, data_record: DataRecord) -> None:
        with self._lock:
            standing = self._records.get(data_record.idempotency_key)
            if standing is None or not _is_running(standing, data_record):
                raise _lost(standing)
            self._records[data_record.idempotency_key] = data_record

    def _sweep(self, now_ms: int) -> None:
        """Look at the first in line: what is over goes, what lives joins the end of the line."""
        records = self._records
        now_s = now_ms // 1000
        for key in tuple(islice(records, SWEPT_AT_ONCE)):
            window_end = records[key].expiry_timestamp
            if window_end is None or window_end >= now_s or not records[key].window_over(now_ms):
                records.move_to_end(key)
            else:
                del records[key]

    def __len__(self) -> int:
        return len(self._records)

    def __bool__(self) -> bool:
        return True  # an empty layer is a layer all the same


_layers: WeakValueDictionary[int, MemoryPersistenceLayer] = WeakValueDictionary()


def _let_go() -> None:
    """Make the locks of a forked child anew: nobody is left there who would let go of one that another thread held."""
    for layer in list(_layers.values()):
        layer._lock = new_lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_let_go)


class AsyncMemoryPersistenceLayer(AsyncBasePersistenceLayer):
    """`MemoryPersistenceLayer` for asynchronous callers; nothing in it waits.

    Args:
        clock: What judges windows and leases. Default: the machine's.
    """

    reachable_by_others: ClassVar[bool] = False

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self._layer = MemoryPersistenceLayer(clock=clock)

    def _peek_record(self, idempotency_key: str) -> DataRecord | None:
        return self._layer._peek_record(idempotency_key)

    async def _get_record(self, idempotency_key: str) -> DataRecord:
        return self._layer._get_record(idempotency_key)

    async def _put_record(self, data_record: DataRecord) -> None:
        self._layer._put_record(data_record)

    async def _update_record(self, data_record: DataRecord) -> None:
        self._layer._update_record(data_record)

    async def _delete_record(self, data_record: DataRecord) -> None:
        self._layer._delete_record(data_record)

    async def _renew_record(self, data_record: DataRecord) -> None:
        self._layer._renew_record(data_record)

    def __len__(self) -> int:
        return len(self._layer)

    def __bool__(self) -> bool:
        return True  # an empty layer is a layer all the same


def _is_running(standing: DataRecord, written: DataRecord) -> bool:
    return standing.stored_status == INPROGRESS and standing.owner is not None and standing.owner == written.owner


def _lost(standing: DataRecord | None) -> IdempotencyLeaseLostError:
    return IdempotencyLeaseLostError("the record is no longer this owner's", record=standing)
