"""Layers that count the renewals of leases, the config by which one is due soon, and a run to be renewed by hand."""

from __future__ import annotations

import threading

from retrysafe import AsyncMemoryPersistenceLayer, IdempotencyConfig, MemoryPersistenceLayer
from retrysafe.answers import AnswerCodec
from retrysafe.call import begin_call
from retrysafe.execution import Execution
from retrysafe.plan import Plan

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


def a_run(clock, layer, payload=1):
    """A run of half a minute's lease, by hand; and the clock by which it is renewed."""
    plan = Plan(function_name="work", key_prefix="work", config=IdempotencyConfig(), codec=AnswerCodec(), clock=clock)
    run = Execution()
    run.call, run.store = begin_call(plan, payload), layer
    run.lease_lost = run.over = False
    run.claim = run.call.claim()
    run.lease_end_ms = run.claim.in_progress_expiry_timestamp
    layer._put_record(run.claim)
    return run
