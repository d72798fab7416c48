"""Batches on DynamoDB, for tests: a shop that charges them, clients that count and answer wrongly, and records."""

from __future__ import annotations

import asyncio

from retrysafe import DataRecord, IdempotencyConfig, idempotent_batch
from retrysafe.persistence.base import AsyncBasePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from support.dynamodb_support import async_layer, sync_layer

STATEMENTS = "BatchExecuteStatement"
READS = "BatchGetItem"
TIME = "GetItem"  # asked for before the first claim of a process
LAYERS = {"sync": sync_layer, "async": async_layer}


def orders(prefix, count):
    return [{"id": f"{prefix}-{number}"} for number in range(count)]


class Shop:
    """Charges batches, sync or async, on one layer; keeps what ran."""

    def __init__(self, layer, **options):
        self.runs = []
        config = IdempotencyConfig(**options)
        # Outcomes wait for each other however slow the machine is, so that requests can be counted.
        options = {"persistence_store": layer, "key_prefix": "shop", "config": config, "record_after_seconds": 60}
        work = self._work_async if isinstance(layer, AsyncBasePersistenceLayer) else self._work
        self._charge = idempotent_batch(work, **options)
        self._layer = layer

    def charge(self, *batches):
        """The statuses of each batch."""
        if isinstance(self._layer, AsyncBasePersistenceLayer):

            async def all_of_them():
                got = [await self._charge(batch) for batch in batches]
                await self._layer.close()
                return got

            results = asyncio.run(all_of_them())
        else:
            results = [self._charge(batch) for batch in batches]
            self._layer.close()
        return [[each.status for each in result] for result in results]

    def _work(self, order):
        self.runs.append(order["id"])
        return {"paid": order["id"]}

    async def _work_async(self, order):
        return self._work(order)


class Client:
    """A client of boto3 that counts, and whose requests can be answered by something else.

    Attributes:
        requests: How often it was asked for each method.
        instead: By method, what is called with the method and its parameters instead of the method.
    """

    def __init__(self, client):
        self._client = client
        self.requests = {}
        self.instead = {}

    def __getattr__(self, name):
        method = getattr(self._client, name)
        if not callable(method):
            return method

        def ask(**parameters):
            self.requests[name] = self.requests.get(name, 0) + 1
            if name in self.instead:
                return self.instead[name](method, parameters)
            return method(**parameters)

        return ask


def claim(key, now_ms, owner="me", **changes):
    """A claim that was made now, with a lease of 30 s."""
    record = DataRecord(key, INPROGRESS, now_ms // 1000 + 3600, now_ms + 30_000, owner=owner, made_at_ms=now_ms)
    return record.replaced(**changes)


def outcome(claimed, data='{"paid": 5}', status=COMPLETED, **changes):
    """What completes the claim a second later."""
    now_ms = claimed.made_at_ms + 1000
    window = {"expiry_timestamp": now_ms // 1000 + 3600, "in_progress_expiry_timestamp": None, "made_at_ms": now_ms}
    return claimed.replaced(status=status, response_data=data, replaces=None, **(window | changes))
