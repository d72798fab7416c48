"""Answers too large for an item of DynamoDB: packed, or left out, and never run again."""

from __future__ import annotations

import random
import string
import zlib

import pytest

from retrysafe import DataRecord
from retrysafe.exceptions import IdempotencyPersistenceConsistencyError, IdempotencyResponseUnavailableError
from retrysafe.persistence.datarecord import COMPLETED, FAILED, INPROGRESS, UNAVAILABLE
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from support.bodies import counted
from support.dynamodb_calls import charged, decorated
from support.dynamodb_support import client_at, items_of, new_table


def noise(characters):
    """Text that hardly gets smaller."""
    return "".join(random.Random(5).choices(string.ascii_letters + string.digits, k=characters))  # noqa: S311 - no secret


def test_an_answer_too_large_for_an_item_is_packed_and_comes_back(each_dynamodb):
    table = new_table(each_dynamodb)
    layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(each_dynamodb.url))
    answer = {"report": ["ü" * 200_000, (1, 2)], "noise": noise(100_000)}
    charge, call = charged(layer, answer)
    assert [call(1), call(1)] == [answer, answer]
    assert charge.body.runs == 1
    (item,) = items_of(each_dynamodb, table)
    packed = item["packed"]["M"]
    assert (item["status"], packed["status"], packed["v"]) == ({"S": UNAVAILABLE}, {"S": COMPLETED}, {"N": "1"})
    assert item["data"] == {"S": ""}
    assert len(zlib.decompress(packed["zip"]["B"])) > 400 * 1024


def test_a_packed_answer_costs_no_further_request(service, table):
    _, call = charged(DynamoDBPersistenceLayer(table, boto3_client=client_at(service.url)), "x" * 500_000)
    call(1)
    assert service.requests == ["GetItem", "PutItem", "outcome"]


def test_a_large_failure_is_packed_too(layer):
    charge = counted()
    charge.body.error = ValueError("no " * 200_000)
    call = decorated(charge, layer, replay_exceptions=(ValueError,))
    for _ in range(2):
        with pytest.raises(ValueError, match="no no"):
            call(1)
    assert charge.body.runs == 1


def test_what_just_fits_is_not_packed(dynoxide, table, layer):
    claim = DataRecord("orders#1", INPROGRESS, 99_999_999_999, None, owner="me")
    layer._put_record(claim)
    bare = sum(len(name) + len(*value.values()) for name, value in items_of(dynoxide, table)[0].items())
    # Less a few bytes that DynamoDB's own arithmetic may take.
    room = 400 * 1024 - bare - len("data") - 64
    layer._update_record(claim.replaced(status=FAILED, response_data="x" * room))
    (item,) = items_of(dynoxide, table)
    assert len(item["data"]["S"]) == room
    assert "packed" not in item
    client_at(dynoxide.url).delete_item(TableName=table, Key=layer._settings.items.key("orders#1"))
    layer._put_record(claim)
    layer._update_record(claim.replaced(status=FAILED, response_data="x" * (room + 128)))
    (item,) = items_of(dynoxide, table)
    assert "packed" in item


@pytest.mark.parametrize("characters", [600_000, 3_000_000])
def test_an_answer_that_fits_by_no_means_is_completed_without_it(layer, characters):
    charge, call = charged(layer, noise(characters))
    assert len(call(1)) == characters
    with pytest.raises(IdempotencyResponseUnavailableError):
        call(1)
    assert charge.body.runs == 1


@pytest.mark.parametrize("times", [1, 2])
def test_what_dynamodb_itself_finds_too_large_is_packed_or_left_out(service, table, times):
    """Its arithmetic has the last word."""
    service.refuse("outcome", "ValidationException", "Item size has exceeded the maximum allowed size", times=times)
    charge, call = charged(DynamoDBPersistenceLayer(table, boto3_client=client_at(service.url)), "paid")
    assert call(1) == "paid"
    if times == 1:
        assert call(1) == "paid"
        assert "packed" in items_of(service.server, table)[0]
    else:
        with pytest.raises(IdempotencyResponseUnavailableError):
            call(1)
    assert charge.body.runs == 1


@pytest.mark.parametrize(
    "change",
    [
        {"v": {"N": "2"}},
        {"status": {"S": "LATER"}},
        {"zip": {"B": b"no zip"}},
        {"zip": {"B": zlib.compress(b"[1]")}},
        {"zip": {"S": "text"}},
    ],
    ids=str,
)
def test_a_packed_answer_that_we_cannot_unpack_is_refused(dynoxide, table, layer, change):
    _, call = charged(layer, "x" * 500_000)
    call(1)
    (item,) = items_of(dynoxide, table)
    item["packed"]["M"] |= change
    client_at(dynoxide.url).put_item(TableName=table, Item=item)
    with pytest.raises(IdempotencyPersistenceConsistencyError, match="packed"):
        call(1)
    assert items_of(dynoxide, table) == [item]
