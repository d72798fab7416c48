"""A layer whose store has a clock of its own, as a server has: it moves the times of what it is given to that clock."""

from __future__ import annotations

from retrysafe.exceptions import IdempotencyItemAlreadyExistsError, IdempotencyLeaseLostError
from retrysafe.persistence.base import BasePersistenceLayer
from retrysafe.persistence.memory import MemoryPersistenceLayer


class OwnClockLayer(BasePersistenceLayer):
    """Records in memory, judged by the store's clock.

    Args:
        clock: The caller's clock.
        store_clock: The store's.
    """

    def __init__(self, *, clock, store_clock):
        super().__init__(clock=clock)
        self.store = MemoryPersistenceLayer(clock=store_clock)

    def _moved(self, record):
        ahead = self.store.clock.now_ms() - record.made_at_ms
        lease_end = record.in_progress_expiry_timestamp
        return record.replaced(
            expiry_timestamp=-(-(record.expiry_timestamp * 1000 + ahead) // 1000),
            in_progress_expiry_timestamp=None if lease_end is None else lease_end + ahead,
        )

    def _read(self, record):
        return None if record is None else record.replaced(read_at_ms=self.store.clock.now_ms())

    def _get_record(self, idempotency_key):
        return self._read(self.store._get_record(idempotency_key))

    def _put_record(self, data_record):
        try:
            self.store._put_record(self._moved(data_record))
        except IdempotencyItemAlreadyExistsError as error:
            raise IdempotencyItemAlreadyExistsError(old_data_record=self._read(error.old_data_record)) from None

    def _update_record(self, data_record):
        self._write(self.store._update_record, data_record)

    def _renew_record(self, data_record):
        self._write(self.store._renew_record, data_record)

    def _delete_record(self, data_record):
        self.store._delete_record(data_record)

    def _write(self, method, record):
        try:
            method(self._moved(record))
        except IdempotencyLeaseLostError as error:
            raise IdempotencyLeaseLostError("lost", record=self._read(error.record)) from None
