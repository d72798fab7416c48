"""A shop that charges batches on any layer, for tests of what a batch costs."""

from __future__ import annotations

from retrysafe import idempotent_batch
from retrysafe.persistence.base import AsyncBasePersistenceLayer
from support.batches import DeclinedError

COUNT = 60


def orders(prefix, count=COUNT):
    return [{"id": f"{prefix}-{number}"} for number in range(count)]


class Shop:
    """Charges batches, sync or async, on one layer."""

    def __init__(self, layer, **options):
        self.runs = []
        options = {"persistence_store": layer, "key_prefix": "shop", **options}
        if isinstance(layer, AsyncBasePersistenceLayer):
            self.charge = idempotent_batch(self.work_async, **options)
        else:
            self.charge = idempotent_batch(self.work, **options)

    def work(self, order):
        self.runs.append(order["id"])
        if order["id"].startswith("bad"):
            raise DeclinedError
        return order["id"]

    async def work_async(self, order):
        return self.work(order)
