"""What is over in a DynamoDB table gives way to the next claim: whatever it is, once, and nothing else does."""

from __future__ import annotations

import json

import pytest

from retrysafe import DataRecord
from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
from retrysafe.persistence.datarecord import COMPLETED, FAILED, INPROGRESS, UNAVAILABLE
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.testing.clock import ManualClock
from support.dynamodb_support import client_at, items_of


@pytest.mark.parametrize(
    ("status", "data", "requests"),
    [
        (COMPLETED, "1", 1),
        (FAILED, "[]", 2),
        (UNAVAILABLE, "", 2),
        (COMPLETED, json.dumps("x" * 500_000), 2),
        (None, "", 2),
    ],
    ids=["answer", "failure", "unavailable", "packed", "died"],
)
def test_what_is_over_gives_way_whatever_it_is(service, table, status, data, requests):
    clock = ManualClock()
    now = clock.now_ms()
    layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(service.url), clock=clock)
    claim = DataRecord("orders#1", INPROGRESS, now // 1000 + 60, now + 30_000, owner="me", made_at_ms=now)
    layer._put_record(claim)
    if status is not None:
        layer._update_record(claim.replaced(status=status, response_data=data, in_progress_expiry_timestamp=None))
    clock.advance(62)
    del service.requests[:]
    now = clock.now_ms()
    anew = DataRecord("orders#1", INPROGRESS, now // 1000 + 60, now + 30_000, owner="other", made_at_ms=now)
    layer._put_record(anew)
    assert layer._get_record("orders#1") == anew
    assert service.requests == ["PutItem"] * requests + ["GetItem"]


@pytest.mark.parametrize("mark", ["owner", "expiration"])
def test_what_is_over_gives_way_once(dynoxide, table, mark):
    """Between the refusal that shows a dead run and the claim that names it, another was quicker."""
    clock = ManualClock()
    layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(dynoxide.url), clock=clock)

    def claim(owner):
        now = clock.now_ms()
        return DataRecord("orders#1", INPROGRESS, now // 1000 + 60, now + 30_000, owner=owner, made_at_ms=now)

    layer._put_record(claim("dead"))
    clock.advance(62)
    backend = layer._settings.open()[0]
    steps = layer._steps.put(claim("late"))
    naming = steps.send(backend.run(next(steps)))
    layer._put_record(claim("quick"))
    if mark == "expiration":  # nothing else tells it from the dead one
        (item,) = items_of(dynoxide, table)
        times = {"in_progress_expiration": naming.parameters["ExpressionAttributeValues"][":seen_lease"]}
        client_at(dynoxide.url).put_item(TableName=table, Item=item | times | {"owner": {"S": "dead"}})
    with pytest.raises(IdempotencyItemAlreadyExistsError) as refused:
        steps.send(backend.run(naming))
    assert refused.value.old_data_record.owner == ("quick" if mark == "owner" else "dead")


def test_a_takeover_spares_the_run_of_a_powertools_worker_that_has_come_since(dynoxide, table):
    """Its item has neither owner nor attempt, and none of older workers has a lease."""
    clock, client = ManualClock(), client_at(dynoxide.url)
    layer = DynamoDBPersistenceLayer(table, boto3_client=client, clock=clock)
    now = clock.now_ms()
    dead = DataRecord("orders#1", INPROGRESS, now // 1000 + 60, now - 1, owner="dead", made_at_ms=now)
    layer._put_record(dead)
    seen = layer._get_record("orders#1")
    running = {"status": {"S": INPROGRESS}, "expiration": {"N": str(now // 1000 + 60)}}
    client.put_item(TableName=table, Item={"id": {"S": "orders#1"}, **running})
    with pytest.raises(IdempotencyItemAlreadyExistsError) as refused:
        layer._put_record(dead.replaced(owner="late", attempt=2, replaces=seen))
    assert refused.value.old_data_record.owner is None
    assert items_of(dynoxide, table) == [{"id": {"S": "orders#1"}, **running}]


def test_a_takeover_that_names_a_later_attempt_spares_an_item_without_one(dynoxide, table):
    """Such an item is read as the first attempt, which is not the one that was seen."""
    clock, client = ManualClock(), client_at(dynoxide.url)
    layer = DynamoDBPersistenceLayer(table, boto3_client=client, clock=clock)
    now = clock.now_ms()
    dead = DataRecord("orders#1", INPROGRESS, now // 1000 + 60, now - 1, owner="dead", attempt=2, made_at_ms=now)
    layer._put_record(dead)
    (item,) = items_of(dynoxide, table)
    del item["attempt"]
    client.put_item(TableName=table, Item=item)
    late = dead.replaced(owner="late", attempt=3, replaces=dead)
    with pytest.raises(IdempotencyItemAlreadyExistsError) as refused:
        layer._put_record(late)
    assert refused.value.old_data_record.attempt == 1
    layer._put_record(late.replaced(replaces=refused.value.old_data_record))
    assert layer._get_record("orders#1").owner == "late"
