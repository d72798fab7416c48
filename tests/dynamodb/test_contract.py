"""The DynamoDB layer keeps the whole persistence contract: sync, async and through threads, with either kind of key."""

from __future__ import annotations

from typing import ClassVar

import pytest

from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.persistence.threads import ThreadedPersistenceLayer
from retrysafe.testing import PersistenceLayerContract
from support.dynamodb_support import async_layer, client_at, new_table

# Each a word that DynamoDB's expressions reserve, but for the sort key, which only has odd characters.
RENAMED = {
    "key_attr": "KEY",
    "sort_key_attr": "sort key #1.ü",
    "expiry_attr": "timestamp",
    "in_progress_expiry_attr": "ttl",
    "status_attr": "exists",
    "data_attr": "value",
    "validation_key_attr": "hash",
}


class OnDynoxide(PersistenceLayerContract):
    rivals = 12
    rounds = 2
    options: ClassVar = {}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls, dynoxide):
        cls.use(dynoxide)

    @classmethod
    def use(cls, server):
        cls.server = server
        cls.client = client_at(server.url)
        cls.table = new_table(server, cls.options.get("key_attr", "id"), cls.options.get("sort_key_attr"))

    def make_layer(self, clock):
        return DynamoDBPersistenceLayer(self.table, boto3_client=self.client, clock=clock, **self.options)

    def second_layer(self, layer):
        return self.make_layer(layer.clock)

    def plant_unreadable(self, layer, idempotency_key):
        settings = getattr(layer, "_layer", layer)._settings
        item = settings.items.key(idempotency_key) | {self.options.get("status_attr", "status"): {"N": "5"}}
        self.client.put_item(TableName=self.table, Item=item)
        return True


class TestOnDynoxide(OnDynoxide):
    rivals = 32
    rounds = 4


class TestOnDynoxideAsync(OnDynoxide):
    def make_layer(self, clock):
        return async_layer(self.server, self.table, clock=clock)


class TestOnDynoxideThroughThreads(OnDynoxide):
    def make_layer(self, clock):
        return ThreadedPersistenceLayer(super().make_layer(clock))


class TestOnDynoxideWithEveryNameChanged(OnDynoxide):
    options = RENAMED


class OnDynamoDBLocal(OnDynoxide):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls, dynamodb_local):
        cls.use(dynamodb_local)


class TestOnDynamoDBLocal(OnDynamoDBLocal):
    pass


class TestOnDynamoDBLocalAsync(OnDynamoDBLocal):
    def make_layer(self, clock):
        return async_layer(self.server, self.table, clock=clock)


class TestOnDynamoDBLocalThroughThreadsWithEveryNameChanged(OnDynamoDBLocal):
    options = RENAMED

    def make_layer(self, clock):
        return ThreadedPersistenceLayer(super().make_layer(clock))
