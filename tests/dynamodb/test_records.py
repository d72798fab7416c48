"""What stands in a DynamoDB table: the item of a record, whoever wrote it, and what is read from it."""

from __future__ import annotations

import hashlib
import json
import pathlib
from decimal import Decimal

import pytest

from retrysafe import DataRecord, IdempotencyConfig, idempotent_function
from retrysafe.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConsistencyError,
)
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.testing.clock import ManualClock
from support.dynamodb_calls import charged, decorated
from support.dynamodb_support import client_at, items_of, new_table

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden/powertools-python-3.37.0.json").read_text())["records"]
TYPESCRIPT = json.loads((pathlib.Path(__file__).parents[1] / "golden/powertools-typescript-2.35.0.json").read_text())
OURS = ("owner", "attempt", "types")


# --- the item ---------------------------------------------------------------------------------------------------------


def without_ours(item):
    return {name: value for name, value in item.items() if name not in OURS}


@pytest.mark.parametrize("composite", [False, True])
def test_items_are_the_peers(dynoxide, composite):
    written_at = GOLDEN["dynamodb_written_at"]
    clock = ManualClock(int(written_at * 1000))
    keys = {"key_attr": "pk", "sort_key_attr": "sk"} if composite else {}
    table = new_table(dynoxide, *keys.values())
    layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(dynoxide.url), clock=clock, **keys)
    (golden,) = GOLDEN["dynamodb_composite_item" if composite else "dynamodb_item_completed"]
    claimed = []

    def charge(order):
        claimed.extend(items_of(dynoxide, table))
        return {"payment": "p1", "ok": True}

    call = idempotent_function(
        charge,
        data_keyword_argument="order",
        persistence_store=layer,
        key_prefix="test-func.shop.orders.charge",
        config=IdempotencyConfig(
            event_key_jmespath="id",
            payload_validation_jmespath="" if composite else "amount",
            in_progress_expires_after_seconds=30,
        ),
    )
    call(order={"id": "c1" if composite else 1, "amount": 5})
    (item,) = items_of(dynoxide, table)
    if not composite:
        assert without_ours(claimed[0]) == GOLDEN["dynamodb_calls"][0]["params"]["Item"]
    key = golden.keys() & {"id", "pk"}
    assert {item[name]["S"] for name in key} == {golden[name]["S"] for name in key}
    assert set(without_ours(item)) == set(golden) - {"in_progress_expiration"}
    assert item["data"] == golden["data"]
    assert item["expiration"] == golden["expiration"]


def test_the_answer_of_a_typescript_worker_stands_as_a_map_and_is_replayed(dynoxide, table, layer):
    _, update = TYPESCRIPT["dynamodb_calls"]
    values = update["params"]["ExpressionAttributeValues"]
    charge, call = charged(layer, "never")
    call(1)
    (item,) = items_of(dynoxide, table)
    item = {"id": item["id"], "status": {"S": "COMPLETED"}, "expiration": {"N": "99999999999"}}
    client_at(dynoxide.url).put_item(TableName=table, Item=item | {"data": values[":response_data"]})
    assert call(1) == {"payment": "p1", "ok": True, "n": [1, 2.5, None]}
    assert charge.body.runs == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", {"B": b"bytes"}),
        ("data", {"M": {"set": {"SS": ["a"]}}}),
        ("owner", {"N": "5"}),
        ("expiration", {"S": "soon"}),
        ("status", {"BOOL": True}),
    ],
    ids=str,
)
def test_an_item_that_no_worker_could_have_meant_is_refused_and_left(dynoxide, table, layer, name, value):
    key = "orders#1"
    item = {"id": {"S": key}, "status": {"S": "COMPLETED"}, "expiration": {"N": "99999999999"}} | {name: value}
    client_at(dynoxide.url).put_item(TableName=table, Item=item)
    claim = DataRecord(key, INPROGRESS, 99, 9_000, owner="me", made_at_ms=0)
    for step in (lambda: layer._get_record(key), lambda: layer._put_record(claim)):
        with pytest.raises(IdempotencyPersistenceConsistencyError, match=f"{key}.*{name}"):
            step()
    with pytest.raises(IdempotencyLeaseLostError):
        layer._update_record(claim.replaced(status=COMPLETED))
    assert items_of(dynoxide, table) == [item]


def test_attributes_of_others_are_passed_over(dynoxide, table, layer):
    layer._put_record(DataRecord("orders#1", INPROGRESS, 99_999_999_999, None, owner="me"))
    client_at(dynoxide.url).update_item(
        TableName=table,
        Key={"id": {"S": "orders#1"}},
        UpdateExpression="SET note = :note",
        ExpressionAttributeValues={":note": {"SS": ["a", "b"]}},
    )
    assert layer._get_record("orders#1").owner == "me"


def test_a_record_needs_no_more_than_key_status_and_owner(layer):
    claim = DataRecord("orders#1", INPROGRESS, owner="me")
    layer._put_record(claim)
    assert layer._get_record("orders#1") == claim
    layer._update_record(claim.replaced(status=COMPLETED, response_data="1"))
    assert layer._get_record("orders#1") == claim.replaced(status=COMPLETED, response_data="1")


def test_errors_name_a_composite_key_whole(dynoxide):
    layer = DynamoDBPersistenceLayer(
        new_table(dynoxide, "pk", "sk"),
        "pk",
        "idempotency#shop",
        "sk",
        boto3_client=client_at(dynoxide.url),
    )
    whole = "pk=idempotency#shop, sk=orders#1"
    with pytest.raises(IdempotencyItemNotFoundError, match=whole):
        layer._get_record("orders#1")
    claim = DataRecord("orders#1", INPROGRESS, 99_999_999_999, None, owner="me")
    with pytest.raises(IdempotencyLeaseLostError, match=whole):
        layer._update_record(claim)
    layer._put_record(claim)
    charge, call = charged(layer, "paid")
    charge.body.during = lambda: call(1)
    with pytest.raises(IdempotencyAlreadyInProgressError, match=r"\(pk=idempotency#shop, sk=orders#[0-9a-f]{32}\)"):
        call(1)
    read = layer._get_record("orders#1")
    assert (read.idempotency_key, read.sort_key) == ("orders#1", "orders#1")


def test_two_functions_share_a_composite_table_by_their_partition(dynoxide, monkeypatch):
    table = new_table(dynoxide, "pk", "sk")
    keys = {"key_attr": "pk", "sort_key_attr": "sk", "boto3_client": client_at(dynoxide.url)}
    for name in ("shop", "bank"):
        monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", name)
        _, call = charged(DynamoDBPersistenceLayer(table, **keys), name)
        assert [call(1), call(1)] == [name, name]
    assert {item["pk"]["S"] for item in items_of(dynoxide, table)} == {"idempotency#shop", "idempotency#bank"}


def test_a_duplicate_of_a_running_call_is_told_who_runs(layer):
    def charge(order):
        with pytest.raises(IdempotencyAlreadyInProgressError) as refused:
            decorated(charge, layer)(order)
        return refused.value.owner

    owner = decorated(charge, layer)(1)
    assert owner
    assert decorated(charge, layer)(1) == owner


# --- a late Powertools worker, which completes by UpdateItem, whoever's claim or answer stands ------------------------


def complete_late(dynoxide, table, data):
    """Put an answer in the place of what stands, and leave our attributes."""
    (item,) = items_of(dynoxide, table)
    client_at(dynoxide.url).update_item(
        TableName=table,
        Key={"id": item["id"]},
        UpdateExpression="SET #data = :data, #status = :status",
        ExpressionAttributeNames={"#data": "data", "#status": "status"},
        ExpressionAttributeValues={":data": data, ":status": {"S": "COMPLETED"}},
    )


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        ({"S": '["2.20", [3]]'}, ["2.20", [3]]),
        ({"L": [{"S": "2.20"}, {"L": [{"N": "3"}]}]}, ["2.20", [3]]),
        ({"S": "paid"}, "paid"),  # a TypeScript worker's, whose text is no JSON
    ],
    ids=["JSON", "list", "text"],
)
def test_an_answer_in_the_place_of_ours_is_read_without_our_types(dynoxide, table, layer, data, answer):
    charge, call = charged(layer, (Decimal("1.10"), [1]))
    assert call(1) == call(1) == (Decimal("1.10"), [1])
    complete_late(dynoxide, table, data)
    assert call(1) == answer
    assert charge.body.runs == 1


def test_an_answer_in_the_place_of_a_packed_one_of_ours_is_replayed(dynoxide, table, layer):
    """What we packed stands beside it still."""
    charge, call = charged(layer, "x" * 500_000)
    assert call(1) == charge.body.answer
    complete_late(dynoxide, table, {"S": '"another"'})
    assert "packed" in items_of(dynoxide, table)[0]
    assert call(1) == "another"
    assert charge.body.runs == 1


def test_types_name_the_answer_that_they_belong_to(dynoxide, table, layer):
    """In the form of docs/record-format.md, which other versions have to read."""
    charge, call = charged(layer, Decimal("1.10"))
    call(1)
    (item,) = items_of(dynoxide, table)
    digest = hashlib.sha256(item["data"]["S"].encode()).hexdigest()[:16]
    assert item["types"]["S"].endswith(f',"of":"{digest}"}}')
    assert json.loads(item["types"]["S"]) == {"v": 1, "t": "Decimal", "of": digest}
    # Types of an answer that nobody has named are those of the answer that stands.
    bare = item | {"types": {"S": '{"v": 1, "t": "Decimal"}'}}
    client_at(dynoxide.url).put_item(TableName=table, Item=bare)
    assert call(1) == Decimal("1.10")
    assert charge.body.runs == 1


def test_an_outcome_is_stored_over_no_other_although_the_owner_is_the_same(dynoxide, table, layer):
    claim = DataRecord("orders#1", INPROGRESS, 99_999_999_999, None, owner="me")
    layer._put_record(claim)
    complete_late(dynoxide, table, {"S": '"another"'})
    with pytest.raises(IdempotencyLeaseLostError) as lost:
        layer._update_record(claim.replaced(status=COMPLETED, response_data='"ours"'))
    assert lost.value.record.response_data == layer._get_record("orders#1").response_data == '"another"'
