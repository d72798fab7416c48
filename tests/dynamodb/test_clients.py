"""Clients of DynamoDB: closed by who made them; one for each event loop and for each process."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from aiobotocore.config import AioConfig
from botocore.config import Config
from moto import mock_aws

from retrysafe import DataRecord
from retrysafe.persistence.datarecord import INPROGRESS
from retrysafe.persistence.dynamodb import AsyncDynamoDBPersistenceLayer, DynamoDBPersistenceLayer
from support.dynamodb_calls import called
from support.dynamodb_support import async_layer, async_session, session, sync_layer


def test_a_client_that_was_given_is_never_closed(dynoxide, table):
    client = session().client("dynamodb", endpoint_url=dynoxide.url)
    with DynamoDBPersistenceLayer(table, boto3_client=client) as layer:
        called(layer)
    assert client.describe_table(TableName=table)["Table"]["TableName"] == table
    client.close()


def test_an_asynchronous_client_that_was_given_is_never_closed(dynoxide, table):
    async def calls():
        async with async_session().create_client("dynamodb", endpoint_url=dynoxide.url) as client:
            async with AsyncDynamoDBPersistenceLayer(table, client=client) as layer:
                await layer._put_record(DataRecord("orders#1", INPROGRESS, 99_999_999_999, None, owner="me"))
            return (await client.describe_table(TableName=table))["Table"]["TableName"]

    assert asyncio.run(calls()) == table


def test_what_is_put_around_a_clients_methods_after_its_first_call_is_called(dynoxide, table, monkeypatch):
    """As a test does that lets a client fail."""
    client = session().client("dynamodb", endpoint_url=dynoxide.url)
    put_item, asked = client.put_item, []
    with DynamoDBPersistenceLayer(table, boto3_client=client) as layer:
        called(layer)
        monkeypatch.setattr(client, "put_item", lambda **item: asked.append(item) or put_item(**item))
        called(layer)
    assert len(asked) == 1
    client.close()


def test_so_is_what_is_put_around_those_of_an_asynchronous_one(dynoxide, table, monkeypatch):
    asked = []

    async def calls():
        async with async_session().create_client("dynamodb", endpoint_url=dynoxide.url) as client:
            layer, put_item = AsyncDynamoDBPersistenceLayer(table, client=client), client.put_item
            await layer._put_record(DataRecord("orders#1", INPROGRESS, 99_999_999_999, None, owner="me"))
            monkeypatch.setattr(client, "put_item", lambda **item: asked.append(item) or put_item(**item))
            await layer._put_record(DataRecord("orders#2", INPROGRESS, 99_999_999_999, None, owner="me"))

    asyncio.run(calls())
    assert len(asked) == 1


def test_a_closed_layer_opens_another_client(dynoxide, table):
    layer = sync_layer(dynoxide, table)
    layer.close()
    for order in range(2):
        assert called(layer) == 1, order
        layer.close()
        layer.close()


@pytest.mark.parametrize(("in_lambda", "when_made"), [(True, 1), (False, 0)])
def test_the_client_is_opened_with_the_first_call_but_in_lambda_with_the_layer(
    in_lambda, when_made, dynoxide, table, monkeypatch
):
    """There the first call has an invocation's timeout before it, and whoever makes the layer has not."""
    monkeypatch.delenv("AWS_LAMBDA_RUNTIME_API", raising=False)
    if in_lambda:
        monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    opened = []

    class Session:
        def client(self, *args, **options):
            opened.append(args)
            return session().client(*args, **options)

    layer = DynamoDBPersistenceLayer(table, boto3_session=Session(), endpoint_url=dynoxide.url)
    assert len(opened) == when_made
    called(layer)
    assert len(opened) == 1
    layer.close()


def test_a_layer_whose_table_or_client_is_set_later_opens_none_in_lambda_before(dynoxide, table, monkeypatch):
    monkeypatch.setenv("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    layer = DynamoDBPersistenceLayer("")
    layer.table_name = table
    layer.client = session().client("dynamodb", endpoint_url=dynoxide.url)
    assert called(layer) == 1
    layer.client.close()


BOTOCORE = "otocore/"  # Botocore/1.2.3, or aiobotocore/1.2.3


@pytest.mark.parametrize(
    ("environ", "config", "names"),
    [
        ({}, None, [BOTOCORE, "Python/", "retrysafe"]),
        ({}, {"user_agent_extra": "shop/7"}, [BOTOCORE, "retrysafe", "shop/7"]),
        ({}, {"user_agent": "mine"}, ["mine"]),
        ({}, {"user_agent_appid": "shop"}, [BOTOCORE, "app/shop"]),
        ({"AWS_SDK_UA_APP_ID": "shop"}, None, [BOTOCORE, "app/shop"]),
    ],
)
def test_a_client_of_its_own_names_the_library_and_what_the_application_asks_for(
    environ, config, names, dynoxide, proxy_to, table, monkeypatch
):
    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", **environ}.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_to(dynoxide)
    options = {
        "region_name": "eu-central-1",
        "endpoint_url": proxy.server.url,
        "boto_config": config and Config(**config),
    }
    with DynamoDBPersistenceLayer(table, **options) as layer:
        called(layer)

    async def call():
        options["boto_config"] = config and AioConfig(**config)
        async with AsyncDynamoDBPersistenceLayer(table, **options) as layer:
            await layer._put_record(DataRecord("orders#async", INPROGRESS, 99_999_999_999, None, owner="me"))

    asyncio.run(call())
    requests = proxy.count(b"DynamoDB_20120810.")
    assert requests >= 3
    for name in names:
        assert proxy.count(name.encode()) == requests, name


def test_what_stands_in_for_botocore_in_a_users_tests_stands_in_for_the_layers_own_client(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws(), DynamoDBPersistenceLayer("some-table", region_name="eu-central-1") as layer:
        layer.create_table()
        assert called(layer) == 1
        assert layer.client.scan(TableName="some-table")["Count"] == 1


def test_an_asynchronous_layer_serves_one_event_loop_after_another_and_opens_once_in_each(dynoxide, proxy_to, table):
    proxy = proxy_to(dynoxide)
    layer = async_layer(proxy.server, table, boto_config=Config(max_pool_connections=1))

    async def claims(number):
        for each in range(3):
            claim = DataRecord(f"{number}-{each}", INPROGRESS, 99_999_999_999, None, owner="me")
            await layer._put_record(claim)
        await asyncio.gather(*(layer._get_record(f"{number}-{each}") for each in range(3)))
        await layer.close()

    asyncio.run(claims(1))
    asyncio.run(claims(2))
    assert proxy.accepted == 2


FORKED = """
import os, sys
from types import SimpleNamespace
from retrysafe import DataRecord
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from support.dynamodb_support import client_at, sync_layer

whose, url, table = sys.argv[1:]
if whose == "given":
    layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(url))
else:
    layer = sync_layer(SimpleNamespace(url=url), table)
def claim(key):
    layer._put_record(DataRecord(key, "INPROGRESS", 99_999_999_999, None, owner="me"))
claim("parent")
child = os.fork()
claim("child" if child == 0 else "parent again")
layer.close()
if child:
    sys.exit(os.waitpid(child, 0)[1])
"""


@pytest.mark.parametrize("whose", ["given", "the layer's"])
def test_a_forked_child_speaks_on_connections_of_its_own(dynoxide, proxy_to, table, whose):
    """On its parent's it would get its parent's replies, and take a claim for won that never was."""
    proxy = proxy_to(dynoxide)
    tests = str(Path(__file__).parents[1])
    program = [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path.insert(0, {tests!r})\n{FORKED}"]
    subprocess.run([*program, whose, proxy.server.url, table], check=True, timeout=60)
    assert (proxy.accepted, proxy.count(b"PutItem")) == (2, 3)


FORKED_WHILE_OPENING = """
import os, signal, sys, threading
from retrysafe.exceptions import IdempotencyItemNotFoundError
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from support.dynamodb_support import session

class Slow:
    def client(self, *args, **options):
        opening.set()
        go_on.wait()
        return session().client(*args, **options)

def look():
    try:
        layer._get_record("key")
    except IdempotencyItemNotFoundError:
        return

url, table = sys.argv[1:]
opening, go_on = threading.Event(), threading.Event()
layer = DynamoDBPersistenceLayer(table, boto3_session=Slow(), endpoint_url=url)
thread = threading.Thread(target=look)
thread.start()
opening.wait()
child = os.fork()
go_on.set()
if child == 0:
    signal.alarm(30)
    look()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
thread.join()
layer.close()
"""


def test_a_child_forked_while_a_thread_opens_the_client_opens_its_own(dynoxide, table):
    tests = str(Path(__file__).parents[1])
    program = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        f"import sys; sys.path.insert(0, {tests!r})\n{FORKED_WHILE_OPENING}",
    ]
    subprocess.run([*program, dynoxide.url, table], check=True, timeout=60)


def test_what_belongs_to_loops_that_ended_without_a_close_is_let_go(dynoxide, table):
    layer = async_layer(dynoxide, table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the client, rightly
        for number in range(3):
            asyncio.run(layer._put_record(DataRecord(f"ended-{number}", INPROGRESS, 99_999_999_999, None, owner="me")))
        assert len(layer._opened) == 1
        del layer
        gc.collect()
