"""Correct layers with every decision in a method of its own, so that a planted bug is a small subclass."""

from __future__ import annotations

import threading

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConsistencyError,
)
from retrysafe.persistence.base import BasePersistenceLayer
from retrysafe.persistence.datarecord import INPROGRESS, DataRecord


class HonestLayer(BasePersistenceLayer):
    """Records in a dict behind a lock, with every decision in a method of its own."""

    def __init__(self, *, clock):
        super().__init__(clock=clock)
        self.records = {}
        self.lock = threading.Lock()

    def key(self, idempotency_key):
        return idempotency_key

    def pause(self):
        """Between looking and writing."""

    def gives_way(self, standing, claim):
        return self.read(standing).window_over(self.clock.now_ms()) or (
            claim.replaces is not None and self.is_replaced(standing, claim.replaces)
        )

    def is_replaced(self, standing, seen):
        return standing.same_claim(seen)

    def is_owner(self, standing, record):
        return standing is not None and standing.owner is not None and standing.owner == record.owner

    def may_complete(self, standing, record):
        return self.is_owner(standing, record)

    def may_release(self, standing, record):
        return self.is_owner(standing, record) and standing.stored_status == INPROGRESS

    def may_renew(self, standing, record):
        return self.is_owner(standing, record) and standing.stored_status == INPROGRESS

    def told(self, standing, claim):
        return standing

    def read(self, record):
        if not isinstance(record, DataRecord):
            raise IdempotencyPersistenceConsistencyError("this is no record")
        return record

    def stored(self, record):
        return record

    def outcome(self, standing, record):
        return record

    def renewal(self, standing, record):
        return record

    def _get_record(self, idempotency_key):
        found = self.records.get(self.key(idempotency_key))
        if found is None:
            raise IdempotencyItemNotFoundError
        return self.read(found)

    def _put_record(self, data_record):
        with self.lock:
            standing = self.records.get(self.key(data_record.idempotency_key))
            self.pause()
            if standing is None or self.gives_way(standing, data_record):
                self.records[self.key(data_record.idempotency_key)] = self.stored(data_record)
                return
        raise IdempotencyItemAlreadyExistsError(old_data_record=self.told(self.read(standing), data_record))

    def _update_record(self, data_record):
        with self.lock:
            standing = self.records.get(self.key(data_record.idempotency_key))
            if not self.may_complete(standing, data_record):
                raise IdempotencyLeaseLostError("lost", record=standing)
            self.pause()
            self.records[self.key(data_record.idempotency_key)] = self.stored(self.outcome(standing, data_record))

    def _delete_record(self, data_record):
        with self.lock:
            if self.may_release(self.records.get(self.key(data_record.idempotency_key)), data_record):
                self.records.pop(self.key(data_record.idempotency_key), None)

    def _renew_record(self, data_record):
        with self.lock:
            standing = self.records.get(self.key(data_record.idempotency_key))
            if not self.may_renew(standing, data_record):
                raise IdempotencyLeaseLostError("lost", record=standing)
            self.records[self.key(data_record.idempotency_key)] = self.stored(self.renewal(standing, data_record))


class PeekingLayer(HonestLayer):
    """One that also tells what it can without I/O."""

    can_peek = True

    def _peek_record(self, idempotency_key):
        return self.records.get(idempotency_key)


class TellingLayer(HonestLayer):
    """One that also tells who watches."""

    def __init__(self, *, clock):
        super().__init__(clock=clock)
        self.watches = []

    def _watch_record(self, idempotency_key):
        watch = HonestWatch(self.watches)
        watch.wake()
        return watch

    def tell(self, record):
        for watch in tuple(self.watches):
            watch.wake()

    def _update_record(self, data_record):
        super()._update_record(data_record)
        self.tell(data_record)

    def _delete_record(self, data_record):
        super()._delete_record(data_record)
        self.tell(data_record)


class HonestWatch:
    """Remembers a wake until the next wait ends."""

    def __init__(self, watches):
        self.watches = watches
        self.woken = threading.Event()
        watches.append(self)

    def wake(self):
        self.woken.set()

    def wait(self, seconds, at_most):
        self.woken.wait(at_most)
        self.woken.clear()

    def close(self):
        if self in self.watches:
            self.watches.remove(self)
