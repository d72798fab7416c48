"""Batches on DynamoDB whose keys are taken: by rivals, earlier runs, Powertools workers, or by the batch itself."""

from __future__ import annotations

import threading

import pytest

from retrysafe import IdempotencyConfig
from retrysafe.exceptions import IdempotencyItemAlreadyExistsError, IdempotencyLeaseLostError
from retrysafe.persistence.datarecord import COMPLETED, FAILED, INPROGRESS
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.testing.clock import ManualClock
from support.dynamodb_batches import LAYERS, READS, STATEMENTS, Shop, claim, orders, outcome
from support.dynamodb_support import client_at, new_table, sync_layer


@pytest.mark.parametrize("flavour", LAYERS)
def test_an_order_that_comes_twice_runs_once_within_a_batch_and_across_batches(each_dynamodb, flavour):
    table = new_table(each_dynamodb)
    shops = [Shop(LAYERS[flavour](each_dynamodb, table), on_in_progress="wait") for _ in range(4)]
    batch = orders("order", 40) + orders("order", 10)
    statuses = {}

    def charge(number):
        statuses[number] = shops[number].charge(batch[number:] + batch[:number])[0]

    threads = [threading.Thread(target=charge, args=(number,)) for number in range(len(shops))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {status for each in statuses.values() for status in each} == {"returned", "replayed"}
    assert sorted(run for shop in shops for run in shop.runs) == sorted(each["id"] for each in orders("order", 40))


def test_one_layer_serves_many_threads_at_once(each_dynamodb):
    shop = Shop(DynamoDBPersistenceLayer(new_table(each_dynamodb), boto3_client=client_at(each_dynamodb.url)))
    got = {}
    threads = [
        threading.Thread(target=lambda number=number: got.update({number: shop._charge(orders(f"{number}", 60))}))
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each.status == "returned" for result in got.values() for each in result)
    assert len(set(shop.runs)) == len(shop.runs) == 360
    shop._layer.close()


def test_of_rivals_that_claim_together_and_by_themselves_one_wins_each_key(each_dynamodb):
    layer = DynamoDBPersistenceLayer(
        new_table(each_dynamodb), boto3_client=client_at(each_dynamodb.url), clock=ManualClock()
    )
    keys = [f"order {number}" for number in range(25)]
    won, start = [], threading.Barrier(8)

    def rival(owner):
        claims = [claim(key, layer.clock.now_ms(), f"owner {owner}") for key in keys]
        start.wait()
        parts = [[each] for each in claims] if owner % 4 == 0 else [claims]
        told = [outcome for part in parts for outcome in layer._for_each("put", part)]
        won.extend(each for each, outcome in zip(claims, told, strict=True) if outcome is None)

    threads = [threading.Thread(target=rival, args=(owner,)) for owner in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.idempotency_key for each in won) == sorted(keys)
    assert all(layer._get_record(each.idempotency_key).owner == each.owner for each in won)
    layer.close()


def test_of_many_claims_each_is_told_what_stands_and_what_is_over_is_claimed(each_service):
    clock = ManualClock()
    layer = sync_layer(each_service, new_table(each_service.server), clock=clock)
    kinds = ["free", "held", "lapsed", "completed", "completed, over", "failed, over", "ours", "garbage"]
    before = clock.now_ms()
    claims = {f"{kind} {number}": kind for number in range(6) for kind in kinds}
    short = {"expiry_timestamp": before // 1000 + 60}
    for key, kind in claims.items():
        held = claim(key, before, "rival")
        if kind in ("held", "lapsed"):
            layer._put_record(held.replaced(in_progress_expiry_timestamp=before + (90_000 if kind == "held" else 5000)))
        elif kind == "ours":
            layer._put_record(claim(key, before + 61_000, f"me {key}"))
        elif kind == "garbage":
            item = {"id": {"S": key}, "status": {"N": "5"}}
            client_at(each_service.server.url).put_item(TableName=layer._settings.table_name, Item=item)
        elif kind != "free":
            layer._put_record(held)
            over = short if kind.endswith("over") else {}
            layer._update_record(outcome(held, status=FAILED if kind.startswith("failed") else COMPLETED, **over))
    clock.advance(62)
    each_service.requests.clear()
    records = [claim(key, clock.now_ms(), f"me {key}") for key in claims]
    outcomes = dict(zip(claims, layer._for_each("put", records), strict=True))
    for key, kind in claims.items():
        got = outcomes[key]
        if kind in ("free", "completed, over", "failed, over"):
            assert got is None
            assert layer._get_record(key).owner == f"me {key}"
        elif kind == "garbage":
            assert type(got).__name__ == "IdempotencyPersistenceConsistencyError"
        else:
            assert isinstance(got, IdempotencyItemAlreadyExistsError)
            assert got.old_data_record == layer._get_record(key)
            assert got.old_data_record.owner == (f"me {key}" if kind == "ours" else "rival")
    # Two requests of 25 statements, one look, and one write for each of the 12 whose window is over.
    assert each_service.requests.count(STATEMENTS) == 2
    assert each_service.requests.count(READS) == 1
    assert each_service.requests.count("PutItem") == 12
    layer.close()


@pytest.mark.parametrize("flavour", LAYERS)
def test_lapsed_leases_are_taken_over_inside_a_batch(each_dynamodb, flavour):
    clock, table = ManualClock(), new_table(each_dynamodb)
    dead = DynamoDBPersistenceLayer(table, boto3_client=client_at(each_dynamodb.url), clock=clock)
    keys = IdempotencyConfig().keys
    batch = orders("order", 30)
    for order in batch[::3]:
        dead._put_record(claim(f"shop#{keys.key_hash(order)}", clock.now_ms(), "dead"))
    clock.advance(31)
    shop = Shop(LAYERS[flavour](each_dynamodb, table, clock=clock))
    assert shop.charge(batch, batch) == [["returned"] * 30, ["replayed"] * 30]
    assert len(shop.runs) == 30
    attempts = [dead._get_record(f"shop#{keys.key_hash(order)}").attempt for order in batch]
    assert attempts == [2, 1, 1] * 10


def test_a_takeover_compares_what_it_saw_and_never_inserts(each_service):
    clock = ManualClock()
    layer = sync_layer(each_service, new_table(each_service.server), clock=clock)
    first = [claim(f"order {number}", clock.now_ms(), "first") for number in range(6)]
    assert layer._for_each("put", first) == [None] * 6
    layer._delete_record(first[0])
    layer._update_record(outcome(first[1]))
    clock.advance(31)
    each_service.requests.clear()
    second = [each.replaced(owner="second", attempt=2, replaces=each, made_at_ms=clock.now_ms()) for each in first]
    second = [each.replaced(in_progress_expiry_timestamp=clock.now_ms() + 30_000) for each in second]
    told = layer._for_each("put", second)
    assert told[0] is None
    assert isinstance(told[1], IdempotencyItemAlreadyExistsError)
    assert told[2:] == [None] * 4
    assert each_service.requests == ["PutItem"] * 6
    layer.close()


def test_records_of_powertools_workers_are_replayed_waited_for_and_taken_over(each_dynamodb):
    clock, table = ManualClock(), new_table(each_dynamodb)
    client = client_at(each_dynamodb.url)
    now_ms, keys, batch = clock.now_ms(), IdempotencyConfig().keys, orders("order", 40)
    window = {"expiration": {"N": str(now_ms // 1000 + 3600)}}
    stands = [
        {"status": {"S": COMPLETED}, "data": {"S": '{"paid": "python"}'}},
        {"status": {"S": COMPLETED}, "data": {"M": {"paid": {"S": "typescript"}}}},
        {"status": {"S": INPROGRESS}, "in_progress_expiration": {"N": str(now_ms + 30_000)}},
        {"status": {"S": INPROGRESS}, "in_progress_expiration": {"N": str(now_ms - 1)}},
    ]
    for order, attributes in zip(batch, stands * 5, strict=False):
        item = {"id": {"S": f"shop#{keys.key_hash(order)}"}} | window | attributes
        client.put_item(TableName=table, Item=item)
    layer = DynamoDBPersistenceLayer(table, boto3_client=client, clock=clock)
    shop = Shop(layer)
    result = shop._charge(batch)
    assert [each.status for each in result[:20]] == ["replayed", "replayed", "in_progress", "returned"] * 5
    assert [each.answer for each in result[:2]] == [{"paid": "python"}, {"paid": "typescript"}]
    assert [each.status for each in result[20:]] == ["returned"] * 20
    assert len(shop.runs) == 25
    layer.close()


def test_an_owner_that_has_lost_its_record_is_told_so_and_the_others_complete(each_dynamodb):
    clock, table = ManualClock(), new_table(each_dynamodb)
    layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(each_dynamodb.url), clock=clock)
    claims = [claim(f"order {number}", clock.now_ms()) for number in range(30)]
    assert layer._for_each("put", claims) == [None] * 30
    layer._delete_record(claims[0])
    layer._update_record(outcome(claims[1], '"late"', owner="me"))
    clock.advance(31)
    layer._put_record(claims[2].replaced(owner="other", attempt=2, replaces=claims[2], made_at_ms=clock.now_ms()))
    layer._update_record(outcome(claims[3]))
    told = layer._for_each("update", [outcome(each) for each in claims])
    assert all(isinstance(each, IdempotencyLeaseLostError) for each in told[:3])
    assert [each.record and each.record.owner for each in told[:3]] == [None, "me", "other"]
    assert told[3:] == [None] * 27  # the very outcome may be stored twice
    layer.close()


def test_a_key_that_comes_twice_is_won_once(each_dynamodb):
    layer = DynamoDBPersistenceLayer(
        new_table(each_dynamodb), boto3_client=client_at(each_dynamodb.url), clock=ManualClock()
    )
    claims = [claim(f"order {number % 5}", ManualClock().now_ms(), f"owner {number}") for number in range(10)]
    told = layer._for_each("put", claims)
    assert told[:5] == [None] * 5
    assert all(isinstance(each, IdempotencyItemAlreadyExistsError) for each in told[5:])
    layer.close()
