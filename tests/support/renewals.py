"""Layers that count the renewals of leases, and the config by which one is due soon."""

from __future__ import annotations

import threading

from retrysafe import AsyncMemoryPersistenceLayer, IdempotencyConfig, MemoryPersistenceLayer

SHORT = IdempotencyConfig(in_progress_expires_after_seconds=0.15)


class Counting:
    """Counts renewals, and lets a test wait for the n-th."""

    def __init__(self):
        self.renewals = []
        self.errors = []
        self.arrived = threading.Condition()

    def note(self, record):
        with self.arrived:
            self.renewals.append(record)
            self.arrived.notify_all()
        if self.errors:
            raise self.errors.pop(0)

    def wait_for(self, count):
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.renewals) >= count, timeout=30)


class SyncLayer(MemoryPersistenceLayer):
    def __init__(self):
        super().__init__()
        self.counting = Counting()

    def _renew_record(self, data_record):
        self.counting.note(data_record)
        super()._renew_record(data_record)


class AsyncLayer(AsyncMemoryPersistenceLayer):
    def __init__(self):
        super().__init__()
        self.counting = Counting()

    async def _renew_record(self, data_record):
        self.counting.note(data_record)
        await super()._renew_record(data_record)
