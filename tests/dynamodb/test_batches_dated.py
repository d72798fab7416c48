"""Batches on DynamoDB that a wrong clock dates: put right, and nothing taken over by it."""

from __future__ import annotations

import time

import pytest

from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from support.dynamodb_batches import STATEMENTS, TIME, Shop, claim, orders, outcome
from support.dynamodb_support import OffClock, async_layer, client_at, items_of, new_table, sync_layer


@pytest.mark.parametrize("ahead_s", [600, -600])
@pytest.mark.parametrize("make_layer", [sync_layer, async_layer])
def test_times_of_a_wrong_clock_are_put_right_in_a_batch(each_service, make_layer, ahead_s):
    clock, table = OffClock(1000 * ahead_s), new_table(each_service.server)
    shop = Shop(make_layer(each_service, table, clock=clock))
    assert shop.charge(orders("first", 30), orders("second", 30)) == [["returned"] * 30] * 2
    now = time.time()
    ends = [int(item["expiration"]["N"]) - now for item in items_of(each_service.server, table)]
    assert len(ends) == 60
    assert all(3600 - 60 < end < 3600 + 60 for end in ends)


def test_the_first_batch_of_a_process_takes_nothing_over_by_a_clock_that_is_ahead(each_service):
    table = new_table(each_service.server)
    right = DynamoDBPersistenceLayer(table, boto3_client=client_at(each_service.server.url))
    now_ms = right.clock.now_ms()
    held = [claim(f"order {number}", now_ms, "rival") for number in range(20)]
    done = {number: outcome(held[number]) for number in range(0, 20, 2)}
    assert right._for_each("put", held) == [None] * 20
    assert right._for_each("update", list(done.values())) == [None] * 10
    layer = sync_layer(each_service, table, clock=OffClock(7_200_000))
    mine = [claim(f"order {number}", layer.clock.now_ms()) for number in range(40)]
    told = layer._for_each("put", mine)
    assert all(isinstance(each, IdempotencyItemAlreadyExistsError) for each in told[:20])
    assert told[20:] == [None] * 20
    leases = [
        int(item["in_progress_expiration"]["N"])
        for item in items_of(each_service.server, table)
        if item["owner"]["S"] == "me"
    ]
    assert len(leases) == 20
    assert all(abs(lease - now_ms - 30_000) < 20_000 for lease in leases)
    right.close()
    layer.close()


def test_after_a_leap_of_the_clock_the_time_is_asked_for_before_anything_is_dated(each_service):
    clock, table = OffClock(), new_table(each_service.server)
    layer = sync_layer(each_service, table, clock=clock)
    assert layer._for_each("put", [claim(f"first {n}", clock.now_ms()) for n in range(10)]) == [None] * 10
    clock.ahead_ms = 3_600_000
    each_service.requests.clear()
    assert layer._for_each("put", [claim(f"second {n}", clock.now_ms()) for n in range(10)]) == [None] * 10
    assert each_service.requests == [TIME, STATEMENTS]
    now_ms = int(time.time() * 1000)
    leases = [int(item["in_progress_expiration"]["N"]) - now_ms for item in items_of(each_service.server, table)]
    assert len(leases) == 20
    assert all(abs(lease - 30_000) < 20_000 for lease in leases)
    layer.close()
