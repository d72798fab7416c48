"""What tests on DynamoDB can ask for: a table, a layer on it, and workers whose clocks are wrong."""

from __future__ import annotations

import pytest

from retrysafe import IdempotencyConfig, idempotent_function
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from support.bodies import counted
from support.dynamodb_support import OffClock, client_at, new_table


@pytest.fixture
def table(dynoxide):
    return new_table(dynoxide)


@pytest.fixture
def layer(dynoxide, table):
    return DynamoDBPersistenceLayer(table, boto3_client=client_at(dynoxide.url))


@pytest.fixture
def worker(service, table):
    """Makes a worker whose clock is so far ahead: its layer, and its function with a count of the runs."""

    def make(ahead_ms=0, **options):
        clock = OffClock(ahead_ms)
        layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(service.url), clock=clock, **options)
        body = counted()
        rules = IdempotencyConfig(expires_after_seconds=600, in_progress_expires_after_seconds=60)
        call = idempotent_function(body, persistence_store=layer, key_prefix="orders", config=rules)
        call.body, call.layer, call.clock = body.body, layer, clock
        return call

    return make


@pytest.fixture
def in_lambda(monkeypatch):
    """Layers made from now on are in a Lambda function, whose clock is kept, and do not ask for the time first."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "orders")
