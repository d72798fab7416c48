"""Code and tests that were written for Powertools go on with another prefix: what they import, set, mock and catch."""

from __future__ import annotations

import asyncio
import copy
import importlib
from unittest import mock
from unittest.mock import MagicMock

import pytest
import redis

from retrysafe import (
    idempotent,
    idempotent_function,
)
from retrysafe.exceptions import (
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence.cache import CachePersistenceLayer
from retrysafe.persistence.dynamodb import AsyncDynamoDBPersistenceLayer, DynamoDBPersistenceLayer
from support.dynamodb_support import async_session, client_at, items_of, new_table, session, sync_layer

PEER = "aws_lambda_powertools.utilities.idempotency"


# --- imports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("", ["BasePersistenceLayer", "DynamoDBPersistenceLayer", "IdempotencyConfig", "IdempotentHookFunction"]),
        (".idempotency", ["IdempotencyConfig", "idempotent", "idempotent_function"]),
        (".persistence.base", ["STATUS_CONSTANTS", "BasePersistenceLayer", "DataRecord"]),
        (".persistence.datarecord", ["STATUS_CONSTANTS", "DataRecord"]),
        (".persistence.redis", ["RedisCachePersistenceLayer", "RedisClientProtocol", "RedisConnection"]),
        (".serialization.functions", ["get_actual_type"]),
        (".persistence.cache", ["CacheClientProtocol", "CacheConnection", "CachePersistenceLayer"]),
    ],
)
def test_layers_and_handlers_find_the_names_where_they_were(module, names):
    theirs, ours = importlib.import_module(PEER + module), importlib.import_module("retrysafe" + module)
    for name in names:
        assert hasattr(theirs, name)
        assert hasattr(ours, name)


def test_the_statuses_are_those_of_the_peer():
    theirs = importlib.import_module(f"{PEER}.persistence.datarecord").STATUS_CONSTANTS
    ours = importlib.import_module("retrysafe.persistence.datarecord").STATUS_CONSTANTS
    assert dict(ours) == dict(theirs)


# --- a layer's client and table, set by tests -------------------------------------------------------------------------


def charging(store):
    """A handler on the layer, and what it ran for."""
    ran = []

    @idempotent(persistence_store=store, key_prefix="orders")
    def handler(event, _):
        ran.append(event)
        return {"payment": len(ran)}

    return handler, ran


def test_a_test_can_hand_an_application_s_layer_another_client_and_another_table(dynoxide):
    layer = DynamoDBPersistenceLayer("production", boto3_session=session(), endpoint_url="http://127.0.0.1:1")
    layer.client = client_at(dynoxide.url)
    layer.table_name = new_table(dynoxide)
    handler, ran = charging(layer)
    assert handler({"order": 1}, None) == handler({"order": 1}, None) == {"payment": 1}
    assert ran == [{"order": 1}]
    assert layer.client is client_at(dynoxide.url)
    (item,) = items_of(dynoxide, layer.table_name)
    assert item["status"] == {"S": "COMPLETED"}


def test_another_table_and_client_count_from_the_next_call_on(dynoxide):
    first, second = new_table(dynoxide), new_table(dynoxide)
    layer = sync_layer(dynoxide, first)
    handler, ran = charging(layer)
    handler({"order": 1}, None)
    own_client = layer.client
    layer.table_name = second
    layer.client = client_at(dynoxide.url)
    assert layer.client is not own_client
    assert handler({"order": 1}, None) == {"payment": 2}
    assert [len(items_of(dynoxide, table)) for table in (first, second)] == [1, 1]
    assert len(ran) == 2


@pytest.mark.parametrize("name", ["", "a table", None])
def test_no_wrong_table_can_be_set(dynoxide, name):
    layer = sync_layer(dynoxide, "orders")
    with pytest.raises(IdempotencyPersistenceConfigError, match="table_name="):
        layer.table_name = name
    assert layer.table_name == "orders"


def test_a_patched_client_and_table_go_back_to_what_they_were(dynoxide):
    layer = DynamoDBPersistenceLayer(new_table(dynoxide), boto3_session=session(), endpoint_url=dynoxide.url)
    handler, ran = charging(layer)
    table, own_client = layer.table_name, layer.client
    with mock.patch.object(layer, "client", MagicMock()) as patched, mock.patch.object(layer, "table_name", "patched"):
        handler({"order": 1}, None)
        assert (layer.client, layer.table_name) == (patched, "patched")
    assert patched.put_item.call_args.kwargs["TableName"] == "patched"
    assert (layer.client, layer.table_name) == (own_client, table)
    assert handler({"order": 1}, None) == handler({"order": 1}, None) == {"payment": 2}
    assert len(ran) == 2
    layer.close()
    own_client.close()


def test_what_a_layer_no_longer_has_cannot_be_asked_for(dynoxide):
    layer = sync_layer(dynoxide, "orders")
    del layer.client, layer.table_name
    assert not hasattr(layer, "client")
    assert not hasattr(layer, "table_name")


def test_no_wrong_client_can_be_set(dynoxide):
    with pytest.raises(IdempotencyPersistenceConfigError, match="none of DynamoDB"):
        sync_layer(dynoxide, "orders").client = object()


@pytest.mark.parametrize("constructed", [True, False])
def test_a_mock_in_the_client_s_place_lets_every_call_run(constructed):
    client = MagicMock()
    layer = DynamoDBPersistenceLayer("orders", boto3_client=client if constructed else None)
    if not constructed:
        layer.client = client
    handler, ran = charging(layer)
    assert [handler({"order": 1}, None), handler({"order": 1}, None)] == [{"payment": 1}, {"payment": 2}]
    client.put_item.assert_called()
    assert len(ran) == 2


class Recording:
    """A fake as tests have it: it notes what is asked, and says nothing."""

    def __init__(self):
        self.asked = []

    def get_item(self, **_):
        self.asked.append("get_item")
        return {}

    def put_item(self, **_):
        self.asked.append("put_item")

    def update_item(self, **_):
        self.asked.append("update_item")

    def delete_item(self, **_):
        self.asked.append("delete_item")


def test_so_does_a_fake_that_gives_nothing():
    client = Recording()
    handler, _ = charging(DynamoDBPersistenceLayer("orders", boto3_client=client))
    assert [handler({"order": 1}, None), handler({"order": 1}, None)] == [{"payment": 1}, {"payment": 2}]
    assert client.asked == ["get_item", *["put_item"] * 4]


def test_a_cache_layer_shows_its_client():
    client = redis.Redis()
    assert CachePersistenceLayer(client=client).client is client


# --- a table that is not known yet ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", None])  # None is what os.environ.get gives
def test_an_application_without_its_table_s_variable_can_be_imported_and_runs_nothing(monkeypatch, name):
    layer = DynamoDBPersistenceLayer(name, boto3_session=session())
    handler, ran = charging(layer)
    with pytest.raises(IdempotencyPersistenceConfigError, match="table_name=''"):
        handler({"order": 1}, None)
    assert ran == []
    monkeypatch.setenv("POWERTOOLS_IDEMPOTENCY_DISABLED", "1")
    with pytest.warns(UserWarning, match="switched off"):
        assert handler({"order": 1}, None) == {"payment": 1}


def test_neither_does_an_asynchronous_one():
    layer = AsyncDynamoDBPersistenceLayer("", session=async_session())
    ran = []

    @idempotent_function(persistence_store=layer, key_prefix="orders")
    async def charge(order):
        ran.append(order)

    with pytest.raises(IdempotencyPersistenceConfigError, match="table_name=''"):
        asyncio.run(charge(1))
    assert ran == []


# --- what is caught ---------------------------------------------------------------------------------------------------


def test_a_missing_table_is_caught_as_the_layer_s_failure(dynoxide):
    handler, ran = charging(sync_layer(dynoxide, "nowhere"))
    with pytest.raises(IdempotencyPersistenceLayerError, match="nowhere") as missing:
        handler({"order": 1}, None)
    assert isinstance(missing.value, IdempotencyPersistenceConfigError)
    assert missing.value.response is None
    assert ran == []


def test_an_exception_of_one_s_own_may_set_the_message_and_the_details_as_plain_attributes():
    class OwnError(IdempotencyPersistenceLayerError):
        def __init__(self, message, tenant):
            self.message, self.details = message, f"tenant {tenant}"
            super().__init__(message, tenant)

    assert str(OwnError("the table is gone", 7)) == "the table is gone - (tenant 7)"
    error = IdempotencyPersistenceLayerError("a", "b", "c")
    assert (error.message, error.details, str(error)) == ("a", "bc", "a - (bc)")
    assert str(copy.copy(error)) == "a - (bc)"
