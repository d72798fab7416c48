"""Code and tests that were written for Powertools go on with another prefix: what they import, set, mock and catch."""

from __future__ import annotations

import asyncio
import importlib
from unittest.mock import MagicMock

import pytest
import redis

from retrysafe import BasePersistenceLayer, IdempotencyConfig, idempotent, idempotent_function
from retrysafe.exceptions import IdempotencyPersistenceConfigError, IdempotencyPersistenceLayerError
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


def test_a_cache_layer_shows_its_client():
    client = redis.Redis()
    assert CachePersistenceLayer(client=client).client is client


# --- a table that is not known yet ------------------------------------------------------------------------------------


def test_an_application_without_its_table_s_variable_can_be_imported_and_runs_nothing(monkeypatch):
    layer = DynamoDBPersistenceLayer("", boto3_session=session())
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


# --- what cannot go on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [BasePersistenceLayer, DynamoDBPersistenceLayer, CachePersistenceLayer])
@pytest.mark.parametrize(
    "name", ["_generate_hash", "_get_hashed_idempotency_key", "_get_hashed_payload", "save_inprogress", "save_success"]
)
def test_a_layer_that_overrides_what_only_the_peer_calls_is_refused_when_it_is_defined(base, name):
    assert hasattr(importlib.import_module(PEER).BasePersistenceLayer, name)
    with pytest.raises(IdempotencyPersistenceConfigError, match=f"OwnLayer overrides {name}"):
        type("OwnLayer", (base,), {name: lambda *_: None})


def test_a_config_says_that_it_is_fixed_instead_of_taking_a_hook_that_others_would_get():
    with pytest.raises(ValueError, match="fixed once made; response_hook="):
        IdempotencyConfig().response_hook = print
