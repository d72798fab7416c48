"""Records in this process's memory: for tests, for one process, and as the reference for every other layer."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
)
from retrysafe.locks import new_rlock
from retrysafe.persistence._forks import begin_anew_in_children
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
        self._claims = 0
        self._begin()
        begin_anew_in_children(self._begin)

    def _begin(self) -> None:
        # Re-entrant, as a signal handler that uses the layer runs on top of whatever its thread is doing here.
        self._lock = new_rlock()

    def _get_record(self, idempotency_key: str) -> DataRecord:
        record = self._records.get(idempotency_key)
        if record is None:
            raise IdempotencyItemNotFoundError("no record under this key", idempotency_key)
        return record

    def _peek_record(self, idempotency_key: str) -> DataRecord | None:
        return self._records.get(idempotency_key)

    def _put_record(self, data_record: DataRecord) -> None:
        key, records = data_record.idempotency_key, self._records
        with self._lock:
            while True:
                standing = records.get(key)
                if (
                    standing is not None
                    and not standing.window_over(self.clock.now_ms())
                    and (data_record.replaces is None or not standing.same_claim(data_record.replaces))
                ):
                    break
                if (records[key] if key in records else None) is standing:  # noqa: SIM401  # see `_swap`
                    records[key] = data_record
                    self._claims += 1
                    if self._claims % CLAIMS_PER_SWEEP == 0:
                        self._sweep(self.clock.now_ms())
                    return
        raise IdempotencyItemAlreadyExistsError("a live record stands", key, old_data_record=standing)

    def _update_record(self, data_record: DataRecord) -> None:
        key, records = data_record.idempotency_key, self._records
        with self._lock:
            while True:
                standing = records.get(key)
                if standing is None or standing.owner is None or standing.owner != data_record.owner:
                    raise _lost(standing)
                if (records[key] if key in records else None) is standing:  # noqa: SIM401  # see `_swap`
                    records[key] = data_record
                    return

    def _delete_record(self, data_record: DataRecord) -> None:
        key = data_record.idempotency_key
        with self._lock:
            while True:
                standing = self._records.get(key)
                if standing is None or not _is_running(standing, data_record) or self._swap(key, standing, None):
                    return

    def _renew_record(self, data_record: DataRecord) -> None:
        key = data_record.idempotency_key
        with self._lock:
            while True:
                standing = self._records.get(key)
                if standing is None or not _is_running(standing, data_record):
                    raise _lost(standing)
                if self._swap(key, standing, data_record):
                    return

    def _swap(self, key: str, standing: DataRecord | None, record: DataRecord | None) -> bool:
        """Put a record in the place of what stands, or remove that; False where a signal handler has changed it since.

        Python looks for signals where a call ends. So none is handled between the comparison and what follows, which
        the two methods that a call needs have in themselves, to spare it this one.
        """
        records = self._records
        if (records[key] if key in records else None) is not standing:  # noqa: SIM401  # without a call
            return False
        if record is None:
            del records[key]
        else:
            records[key] = record
        return True

    def _sweep(self, now_ms: int) -> None:
        """Look at the first in line: what is over goes, what lives joins the end of the line."""
        records = self._records
        now_s = now_ms // 1000
        for key in tuple(islice(records, SWEPT_AT_ONCE)):
            record = records.get(key)
            if record is None:  # swept by a signal handler
                continue
            window_end = record.expiry_timestamp
            if window_end is not None and window_end < now_s and record.window_over(now_ms):
                self._swap(key, record, None)
            elif key in records:
                records.move_to_end(key)

    def __len__(self) -> int:
        return len(self._records)

    def __bool__(self) -> bool:
        return True  # an empty layer is a layer all the same


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
