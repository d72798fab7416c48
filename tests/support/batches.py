"""Batches for tests: work that keeps what ran, functions over it, and layers that tell what they were asked."""

from __future__ import annotations

import threading

from retrysafe import AsyncMemoryPersistenceLayer, IdempotencyConfig, MemoryPersistenceLayer, idempotent_batch
from retrysafe.testing import AsyncFailingLayer, FailingLayer
from support.flavours import FLAVOURS

BY_ID = IdempotencyConfig(event_key_jmespath="id")
SYNC = [flavour for flavour in FLAVOURS if not flavour.is_async]


class DeclinedError(Exception):
    """What the work raises for an order that is to fail."""


class Work:
    """Answers each order, and keeps what ran; `failing` are the ids that raise."""

    def __init__(self, *failing):
        self.runs = []
        self.failing = set(failing)

    def __call__(self, order, **options):
        self.runs.append(order["id"])
        if order["id"] in self.failing:
            raise DeclinedError(order["id"])
        return {"paid": order["id"], **options}


def orders(*ids):
    return [{"id": each} for each in ids]


def over_many(flavour, work, layer, config=BY_ID, **options):
    def charge(order, **further):
        return work(order, **further)

    return flavour.caller(
        idempotent_batch(flavour.body(charge), persistence_store=layer, config=config, key_prefix="charge", **options)
    )


def one_at_a_time(flavour, work, layer, config=BY_ID):
    def charge(order):
        return work(order)

    return flavour.function(
        charge, persistence_store=layer, config=config, key_prefix="charge", data_keyword_argument="order"
    )


def failing(flavour, **options):
    layer = flavour.layer(**options)
    return AsyncFailingLayer(layer) if flavour.is_async and flavour.name == "async" else FailingLayer(layer)


def statuses(result):
    return [each.status for each in result]


def stored(flavour, layer):
    """The statuses of all records, sorted."""
    return sorted(record.stored_status for record in flavour.inner(layer)._records.values())


class Watched(MemoryPersistenceLayer):
    """Tells when it was asked to renew and to complete."""

    can_peek = False

    def __init__(self):
        super().__init__()
        self.renewed, self.completed = {}, threading.Event()
        self.all_renewed = threading.Event()

    def _renew_record(self, data_record):
        super()._renew_record(data_record)
        self.renewed[data_record.idempotency_key] = True
        if len(self.renewed) == 3:
            self.all_renewed.set()

    def _update_record(self, data_record):
        super()._update_record(data_record)
        self.completed.set()


class WatchedAsync(AsyncMemoryPersistenceLayer):
    """The same for asynchronous callers."""

    can_peek = False

    def __init__(self):
        super().__init__()
        self._layer = Watched()

    async def _renew_record(self, data_record):
        self._layer._renew_record(data_record)
