"""Wrong options and wrong clients are refused when the DynamoDB layer is made, or by its first call."""

from __future__ import annotations

import asyncio
import sys

import boto3
import pytest
from aiobotocore.session import get_session
from botocore.config import Config

from retrysafe import async_layer_from_url, layer_from_url
from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence.dynamodb import AsyncDynamoDBPersistenceLayer, DynamoDBPersistenceLayer
from support.dynamodb_calls import refused_before_it_runs
from support.dynamodb_support import async_session, client_at, session


@pytest.mark.parametrize("make", [DynamoDBPersistenceLayer, AsyncDynamoDBPersistenceLayer])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"table_name": "a table"}, "table_name='a table'"),
        ({"table_name": "orders\n"}, "table_name="),
        ({"key_attr": ""}, "key_attr=''"),
        ({"sort_key_attr": "id"}, "sort_key_attr='id': the name is taken, by key_attr"),
        ({"data_attr": "owner"}, "data_attr='owner': the name is taken, by an attribute of ours"),
        ({"status_attr": "packed"}, "status_attr='packed'"),
        ({"status_attr": "data"}, "the name is taken, by"),
        ({"key_attr": "k" * 256}, "1 to 255 bytes"),
        ({"static_pk_value": ""}, "static_pk_value=''"),
        ({"static_pk_value": 5}, "static_pk_value=5"),
        ({"clock_skew_limit_seconds": 0}, "clock_skew_limit_seconds=0"),
        ({"clock_skew_limit_seconds": "5"}, "clock_skew_limit_seconds='5'"),
        ({"boto_config": {"retries": 1}}, "boto_config={'retries': 1}"),
        ({"boto_config": Config}, "boto_config=<class 'botocore.config.Config'>"),
        ({"region_name": 5}, "region_name=5"),
        ({"endpoint_url": 5}, "endpoint_url=5"),
        ({"endpoint_url": "localhost:8000"}, "endpoint_url='localhost:8000'"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_when_the_layer_is_made(make, options, told):
    with pytest.raises(IdempotencyPersistenceConfigError) as refused:
        make(**{"table_name": "orders"} | options)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("make", "library", "given"),
    [
        (DynamoDBPersistenceLayer, "botocore", {"boto3_session": session()}),
        (AsyncDynamoDBPersistenceLayer, "aiobotocore", {"session": async_session()}),
        (lambda _: layer_from_url("dynamodb://orders"), "botocore", None),
        (lambda _: async_layer_from_url("dynamodb://orders"), "aiobotocore", None),
    ],
)
def test_a_layer_without_its_client_library_is_refused_when_it_is_made(make, library, given, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(IdempotencyPersistenceConfigError, match=f"needs {library}: pip install 'retrysafe"):
        make("orders")
    if given is not None:
        make("orders", **given)


def test_a_wrong_client_is_refused_when_the_layer_is_made(dynoxide):
    resource = session().resource("dynamodb", endpoint_url=dynoxide.url)
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"pass boto3\.client\('dynamodb'\)"):
        DynamoDBPersistenceLayer("orders", boto3_client=resource)
    with pytest.raises(IdempotencyPersistenceConfigError, match=r"pass boto3\.client\('dynamodb'\)"):
        DynamoDBPersistenceLayer("orders", boto3_client=resource.Table("orders"))
    with pytest.raises(IdempotencyPersistenceConfigError, match="is none of DynamoDB"):
        DynamoDBPersistenceLayer("orders", boto3_client=session().client("sts"))
    with pytest.raises(IdempotencyPersistenceConfigError, match="use DynamoDBPersistenceLayer"):
        AsyncDynamoDBPersistenceLayer("orders", client=client_at(dynoxide.url))
    with pytest.raises(IdempotencyPersistenceConfigError, match="is no boto3"):
        DynamoDBPersistenceLayer("orders", boto3_session="eu-central-1")
    with pytest.raises(IdempotencyPersistenceConfigError, match="is no aiobotocore"):
        AsyncDynamoDBPersistenceLayer("orders", session=boto3.Session())

    async def asynchronous():
        async with get_session().create_client("dynamodb", region_name="eu-central-1") as client:
            with pytest.raises(IdempotencyPersistenceConfigError, match="use AsyncDynamoDBPersistenceLayer"):
                DynamoDBPersistenceLayer("orders", boto3_client=client)

    asyncio.run(asynchronous())


def test_a_client_that_a_resource_has_changed_is_found_out_by_what_the_service_says(dynoxide, table):
    """It looks like any other, and makes other values of what it is given."""
    client = session().resource("dynamodb", endpoint_url=dynoxide.url).meta.client
    layer = DynamoDBPersistenceLayer(table, boto3_client=client)
    refused_before_it_runs(layer, IdempotencyPersistenceConfigError, "resource", "boto3.client('dynamodb')")
