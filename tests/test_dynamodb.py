"""The DynamoDB layer on DynamoDB's interface: the whole contract, and what is DynamoDB's own about it."""

from __future__ import annotations

import pytest

from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.persistence.threads import ThreadedPersistenceLayer
from retrysafe.testing import PersistenceLayerContract
from support.dynamodb_support import client_of, new_table, own_async_layer


class OnDynoxide(PersistenceLayerContract):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _server(cls, dynoxide):
        cls.server = dynoxide
        cls.client = client_of(dynoxide)
        cls.table = new_table(dynoxide)

    def make_layer(self, clock):
        return DynamoDBPersistenceLayer(self.table, boto3_client=self.client, clock=clock)

    def plant_unreadable(self, layer, idempotency_key):
        self.client.put_item(TableName=self.table, Item={"id": {"S": idempotency_key}, "status": {"N": "5"}})
        return True


class TestContract(OnDynoxide):
    pass


class TestContractAsync(OnDynoxide):
    def make_layer(self, clock):
        return own_async_layer(self.server, self.table, clock=clock)
