"""What stands in a DynamoDB table, what a call costs there, and what becomes of replies that get lost."""

from __future__ import annotations

import asyncio
import json
import pathlib
import random
import string
import zlib
from decimal import Decimal

import pytest
from botocore.config import Config

from retrysafe import DataRecord, IdempotencyConfig, idempotent_function
from retrysafe.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.persistence.datarecord import COMPLETED, FAILED, INPROGRESS, UNAVAILABLE
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.testing.clock import ManualClock
from servers.dynamodb_service import OUTCOME
from support.bodies import counted
from support.dynamodb_support import async_layer, client_at, items_of, new_table, session, sync_layer

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden/powertools-python-3.37.0.json").read_text())["records"]
TYPESCRIPT = json.loads((pathlib.Path(__file__).parents[1] / "golden/powertools-typescript-2.35.0.json").read_text())
OURS = ("owner", "attempt", "types")

# Quick to try again, as it is at home.
KEEN = Config(retries={"total_max_attempts": 3})


@pytest.fixture
def table(dynoxide):
    return new_table(dynoxide)


@pytest.fixture
def layer(dynoxide, table):
    return DynamoDBPersistenceLayer(table, boto3_client=client_at(dynoxide.url))


def decorated(body, layer, **config):
    return idempotent_function(body, persistence_store=layer, key_prefix="orders", config=IdempotencyConfig(**config))


def charged(layer, answer):
    """A function that counts its runs and gives this answer."""
    charge = counted()
    charge.body.answer = answer
    return charge, decorated(charge, layer)


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


# --- large answers ----------------------------------------------------------------------------------------------------


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


# --- requests ---------------------------------------------------------------------------------------------------------


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


# --- lost replies -----------------------------------------------------------------------------------------------------


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


# --- whole calls ------------------------------------------------------------------------------------------------------


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
    "data", [{"S": '["2.20", [3]]'}, {"L": [{"S": "2.20"}, {"L": [{"N": "3"}]}]}], ids=["text", "list"]
)
def test_an_answer_in_the_place_of_ours_is_read_without_our_types(dynoxide, table, layer, data):
    charge, call = charged(layer, (Decimal("1.10"), [1]))
    assert call(1) == call(1) == (Decimal("1.10"), [1])
    complete_late(dynoxide, table, data)
    assert call(1) == ["2.20", [3]]
    assert charge.body.runs == 1


def test_an_outcome_is_stored_over_no_other_although_the_owner_is_the_same(dynoxide, table, layer):
    claim = DataRecord("orders#1", INPROGRESS, 99_999_999_999, None, owner="me")
    layer._put_record(claim)
    complete_late(dynoxide, table, {"S": '"another"'})
    with pytest.raises(IdempotencyLeaseLostError) as lost:
        layer._update_record(claim.replaced(status=COMPLETED, response_data='"ours"'))
    assert lost.value.record.response_data == layer._get_record("orders#1").response_data == '"another"'
