"""How many requests to DynamoDB a call takes, and what they cost."""

from __future__ import annotations

import asyncio

import pytest

from retrysafe import DataRecord
from retrysafe.exceptions import IdempotencyItemNotFoundError
from retrysafe.persistence.datarecord import INPROGRESS
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from servers.dynamodb_service import OUTCOME
from support.dynamodb_calls import charged, decorated
from support.dynamodb_support import async_layer, new_table, session, sync_layer


def know_the_time(layer):
    """Otherwise the first claim of a process asks for it."""
    with pytest.raises(IdempotencyItemNotFoundError):
        layer._get_record("nothing")


def test_a_first_call_takes_two_requests_and_a_replay_one(dynoxide, proxy_to):
    table = new_table(dynoxide)
    proxy = proxy_to(dynoxide)
    with sync_layer(proxy.server, table) as layer:
        charge, call = charged(layer, "paid")
        know_the_time(layer)
        call(1)
        assert [proxy.count(b"PutItem"), proxy.count(OUTCOME), proxy.count(b"POST")] == [2, 1, 3]
        call(1)
        assert [proxy.count(b"PutItem"), proxy.count(b"POST")] == [3, 4]
        charge.body.error = ValueError("no")
        with pytest.raises(ValueError, match="no"):
            call(2)
        assert [proxy.count(b"PutItem"), proxy.count(b"DeleteItem"), proxy.count(b"POST")] == [4, 1, 6]


def test_a_look_sees_every_write_that_came_before(dynoxide, proxy_to):
    proxy = proxy_to(dynoxide)
    with sync_layer(proxy.server, new_table(dynoxide)) as layer, pytest.raises(IdempotencyItemNotFoundError):
        layer._get_record("orders#1")
    assert proxy.count(b'"ConsistentRead": true') == 1


def test_an_asynchronous_call_takes_no_more(dynoxide, proxy_to):
    table = new_table(dynoxide)
    proxy = proxy_to(dynoxide)

    async def pay(order):
        return order

    async def calls():
        async with async_layer(proxy.server, table) as layer:
            call = decorated(pay, layer)
            await call(0)  # asks for the time
            return await asyncio.gather(call(1), call(2)) + [await call(1)]

    assert asyncio.run(calls()) == [1, 2, 1]
    assert [proxy.count(b"PutItem"), proxy.count(OUTCOME), proxy.count(b"POST")] == [7, 3, 8]


def test_what_a_call_costs(dynamodb_local):
    """In write units, of which one is a kilobyte. A refused write is not told; it costs what stands there."""
    table = new_table(dynamodb_local)
    client = session().client("dynamodb", endpoint_url=dynamodb_local.url)
    client.meta.events.register(
        "provide-client-params.dynamodb.*", lambda params, **_: params | {"ReturnConsumedCapacity": "TOTAL"}
    )
    units = []
    client.meta.events.register(
        "after-call.dynamodb.*",
        lambda parsed, **_: units.append(parsed.get("ConsumedCapacity", {}).get("CapacityUnits")),
    )
    layer = DynamoDBPersistenceLayer(table, boto3_client=client)
    charge, call = charged(layer, {"payment": "p1", "ok": True})
    know_the_time(layer)
    del units[:]
    call(1)
    assert units == [1.0, 1.0]
    call(1)
    assert units[2:] == [None]
    charge.body.answer = "x" * 10_000
    call(2)
    assert units[3:] == [1.0, 10.0]
    charge.body.error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        call(3)
    assert units[5:] == [1.0, 1.0]
    del units[:]
    claim = DataRecord("orders#1", INPROGRESS, 99_999_999_999, 9_000, owner="me")
    layer._put_record(claim)
    layer._renew_record(claim)
    layer._get_record("orders#1")
    assert units == [1.0, 1.0, 1.0]
    client.close()
