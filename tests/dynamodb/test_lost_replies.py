"""Replies of DynamoDB that get lost: a write that is sent again knows its own."""

from __future__ import annotations

import asyncio

import pytest
from botocore.config import Config

from retrysafe import DataRecord
from retrysafe.persistence.datarecord import INPROGRESS
from servers.dynamodb_service import OUTCOME
from support.dynamodb_calls import charged, decorated
from support.dynamodb_support import async_layer, client_at, items_of, new_table, sync_layer

# Quick to try again, as it is at home.
KEEN = Config(retries={"total_max_attempts": 3})


@pytest.mark.parametrize("lost", [b"PutItem", OUTCOME, b"DeleteItem"])
def test_a_reply_that_is_lost_is_no_refusal(dynoxide, proxy_to, lost):
    """boto3 sends it again, and a write then meets its own."""
    table = new_table(dynoxide)
    proxy = proxy_to(dynoxide)
    with sync_layer(proxy.server, table, boto_config=KEEN) as layer:
        charge, call = charged(layer, "paid")
        if lost == b"DeleteItem":
            charge.body.error = ValueError("no")
        fault = proxy.drop_reply(lost)
        if lost == b"DeleteItem":
            with pytest.raises(ValueError, match="no"):
                call(1)
            assert items_of(dynoxide, table) == []
        else:
            assert [call(1), call(1)] == ["paid", "paid"]
        assert fault.struck
        assert charge.body.runs == 1


def test_a_renewal_whose_reply_is_lost_is_no_loss(dynoxide, proxy_to):
    table = new_table(dynoxide)
    proxy = proxy_to(dynoxide)
    with sync_layer(proxy.server, table, boto_config=KEEN) as layer:
        now = layer.clock.now_ms()
        claim = DataRecord("orders#1", INPROGRESS, now // 1000 + 60, now + 30_000, owner="me", made_at_ms=now)
        layer._put_record(claim)
        fault = proxy.drop_reply(b"UpdateItem")
        renewed = claim.replaced(in_progress_expiry_timestamp=now + 50_000)
        layer._renew_record(renewed)
        assert fault.struck
        assert layer._get_record("orders#1") == renewed


def test_a_takeover_whose_reply_is_lost_is_still_ours(dynoxide, proxy_to):
    table = new_table(dynoxide)
    proxy = proxy_to(dynoxide)
    with sync_layer(proxy.server, table, boto_config=KEEN) as layer:
        charge, call = charged(layer, "paid")
        call(1)
        (item,) = items_of(dynoxide, table)
        item |= {"status": {"S": INPROGRESS}, "in_progress_expiration": {"N": "1"}, "owner": {"S": "gone"}}
        client_at(dynoxide.url).put_item(TableName=table, Item=item)
        fault = proxy.drop_reply(b"named_owner")
        assert call(1) == "paid"
        assert fault.struck
        assert charge.body.runs == 2
        assert items_of(dynoxide, table)[0]["attempt"] == {"N": "2"}


def test_a_lost_reply_of_an_asynchronous_call(dynoxide, proxy_to):
    table = new_table(dynoxide)
    proxy = proxy_to(dynoxide)
    runs = []

    async def pay(order):
        runs.append(order)
        return order

    async def calls():
        async with async_layer(proxy.server, table, boto_config=KEEN) as layer:
            call = decorated(pay, layer)
            faults = proxy.drop_reply(b"attribute_not_exists"), proxy.drop_reply(OUTCOME)
            return await call(1), await call(1), [fault.struck for fault in faults]

    assert asyncio.run(calls()) == (1, 1, [True, True])
    assert runs == [1]


def test_connections_that_died_while_idle_are_made_anew(dynoxide, proxy_to):
    """As after a freeze, or a restored snapshot: by what tells dead ones apart, not by trying again."""
    table = new_table(dynoxide)
    proxy = proxy_to(dynoxide)
    once = Config(retries={"total_max_attempts": 1})
    runs = []

    def pay(order):
        runs.append(order)
        proxy.cut()
        return order

    with sync_layer(proxy.server, table, boto_config=once) as layer:
        call = decorated(pay, layer)
        first = call(1)
        proxy.cut()
        assert (first, call(1), runs) == (1, 1, [1])


def test_so_are_those_of_asynchronous_calls(dynoxide, proxy_to):
    table = new_table(dynoxide)
    proxy = proxy_to(dynoxide)
    runs = []

    async def pay(order):
        runs.append(order)
        proxy.cut()
        return order

    async def calls():
        async with async_layer(proxy.server, table, boto_config=KEEN) as layer:
            call = decorated(pay, layer)
            first = await call(1)
            proxy.cut()
            return first, await call(1)

    assert (asyncio.run(calls()), runs) == ((1, 1), [1])
