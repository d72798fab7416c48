"""Batches on DynamoDB: the records of single calls, in few requests; what a statement cannot do goes by itself."""

from __future__ import annotations

import threading

import pytest

from retrysafe import IdempotencyConfig, idempotent_batch
from retrysafe.exceptions import IdempotencyItemAlreadyExistsError, IdempotencyLeaseLostError
from retrysafe.persistence._dynamodb_statements import LARGEST_TOGETHER
from retrysafe.persistence.datarecord import COMPLETED, FAILED, INPROGRESS, UNAVAILABLE
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.testing.clock import ManualClock
from support.dynamodb_batches import LAYERS, READS, STATEMENTS, Client, Shop, claim, orders, outcome
from support.dynamodb_support import Service, client_at, items_of, new_table, sync_layer

SERVERS = ["dynamodb_local", "dynoxide"]
SETTINGS = {
    "as it is": {},
    "reserved words": {
        "key_attr": "KEY",
        "expiry_attr": "timestamp",
        "in_progress_expiry_attr": "ttl",
        "status_attr": "exists",
        "data_attr": "value",
        "validation_key_attr": "select-from",
    },
    "a sort key": {"key_attr": "pk", "sort_key_attr": "sk", "static_pk_value": 'it\'s "all" here?'},
    "names that need escapes": {"status_attr": "state's", "data_attr": 'the "answer"', "expiry_attr": "ends.at"},
}


@pytest.fixture(params=SERVERS)
def server(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def service(server):
    with Service(server) as service:
        yield service


def table_for(server, options):
    return new_table(server, options.get("key_attr", "id"), options.get("sort_key_attr"))


def by_key(server, table, options):
    name = options.get("sort_key_attr") or options.get("key_attr", "id")
    return {item[name]["S"]: item for item in items_of(server, table)}


# --- the records ------------------------------------------------------------------------------------------------------

NOW_MS = ManualClock().now_ms()

CLAIMS = [
    claim("plain", NOW_MS),
    claim("with a hash", NOW_MS, payload_hash="9f2c"),
    claim("without a lease", NOW_MS, in_progress_expiry_timestamp=None),
    claim("a later attempt", NOW_MS, attempt=3),
    claim("Schlüssel 'ä' \"ö\" ? -- ; {}", NOW_MS),
    claim("without an owner", NOW_MS, owner=None),
    claim("k" * 900, NOW_MS),
]
OUTCOMES = [
    {},
    {"data": "", "status": UNAVAILABLE},
    {"data": '{"args": [], "class": "DeclinedError"}', "status": FAILED},
    {"data": '["2030-01-01", "it\'s \\"5\\"?"]', "types": '{"v": 1, "t": ["list", {"0": "date"}]}'},
    {"data": '"' + "ä" * 5000 + '"'},
    {"data": '"' + "x" * (LARGEST_TOGETHER + 1) + '"'},
    {"data": '"' + "x" * 500_000 + '"'},
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_records_are_those_of_single_calls_to_the_byte(server, setting):
    options = SETTINGS[setting]
    tables = [table_for(server, options) for _ in range(2)]
    together, alone = (
        DynamoDBPersistenceLayer(table, boto3_client=client_at(server.url), clock=ManualClock(), **options)
        for table in tables
    )
    for number, change in enumerate(OUTCOMES):
        claims = [each.replaced(idempotency_key=f"{number} {each.idempotency_key}") for each in CLAIMS]
        assert together._for_each("put", claims) == [None] * len(claims)
        for each in claims:
            alone._put_record(each)
        assert by_key(server, tables[0], options) == by_key(server, tables[1], options)
        done = [outcome(each, **change) for each in claims if each.owner]
        assert together._for_each("update", done) == [None] * len(done)
        for each in done:
            alone._update_record(each)
        assert by_key(server, tables[0], options) == by_key(server, tables[1], options)
    together.close()


@pytest.mark.parametrize("setting", SETTINGS)
def test_only_names_that_need_escapes_keep_records_from_going_together(service, setting):
    options = SETTINGS[setting]
    layer = sync_layer(service, table_for(service.server, options), **options)
    assert Shop(layer).charge(orders("order", 20)) == [["returned"] * 20]
    if setting == "names that need escapes":
        assert service.requests == ["PutItem"] * 40
    else:
        assert service.requests == [STATEMENTS] * 2


@pytest.mark.parametrize("flavour", LAYERS)
def test_a_batch_of_fifty_is_four_requests_and_a_replayed_one_three(service, flavour):
    shop = Shop(LAYERS[flavour](service, new_table(service.server)))
    assert shop.charge(orders("order", 50)) == [["returned"] * 50]
    assert service.requests == [STATEMENTS] * 4
    service.requests.clear()
    assert shop.charge(orders("order", 50)) == [["replayed"] * 50]
    assert sorted(service.requests) == [STATEMENTS] * 2 + [READS]
    service.requests.clear()
    assert shop.charge(orders("single", 1), orders("order", 1)) == [["returned"], ["replayed"]]
    assert sorted(service.requests) == ["PutItem", "PutItem", "outcome"]


def test_statements_are_charged_like_single_writes(dynoxide):
    """DynamoDB Local does not tell what statements are charged."""
    units = {}

    def charged(method, parameters):
        reply = method(**parameters, ReturnConsumedCapacity="TOTAL")
        consumed = reply["ConsumedCapacity"]
        for each in consumed if isinstance(consumed, list) else [consumed]:
            units[method.__name__] = units.get(method.__name__, 0) + each["CapacityUnits"]
        return reply

    client = Client(client_at(dynoxide.url))
    client.instead = dict.fromkeys(("put_item", "batch_execute_statement"), charged)
    layer = DynamoDBPersistenceLayer(new_table(dynoxide), boto3_client=client, clock=ManualClock())
    claims = [claim(f"order {number}", NOW_MS) for number in range(20)]
    done = [outcome(each, '"' + "x" * 3000 + '"') for each in claims]
    for operation, records in (("put", claims), ("update", done)):
        assert layer._for_each(operation, records[:10]) == [None] * 10
        for record in records[10:]:
            assert layer._for_each(operation, [record]) == [None]
    assert units == {"batch_execute_statement": 10 + 10 * 3, "put_item": 10 + 10 * 3}
    layer.close()


# --- what stands already ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", LAYERS)
def test_an_order_that_comes_twice_runs_once_within_a_batch_and_across_batches(server, flavour):
    table = new_table(server)
    shops = [Shop(LAYERS[flavour](server, table), on_in_progress="wait") for _ in range(4)]
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


def test_one_layer_serves_many_threads_at_once(server):
    shop = Shop(DynamoDBPersistenceLayer(new_table(server), boto3_client=client_at(server.url)))
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


def test_of_many_claims_each_is_told_what_stands_and_what_is_over_is_claimed(service):
    clock = ManualClock()
    layer = sync_layer(service, new_table(service.server), clock=clock)
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
            client_at(service.server.url).put_item(TableName=layer._settings.table_name, Item=item)
        elif kind != "free":
            layer._put_record(held)
            over = short if kind.endswith("over") else {}
            layer._update_record(outcome(held, status=FAILED if kind.startswith("failed") else COMPLETED, **over))
    clock.advance(62)
    service.requests.clear()
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
    assert service.requests.count(STATEMENTS) == 2
    assert service.requests.count(READS) == 1
    assert service.requests.count("PutItem") == 12
    layer.close()


@pytest.mark.parametrize("flavour", LAYERS)
def test_lapsed_leases_are_taken_over_inside_a_batch(server, flavour):
    clock, table = ManualClock(), new_table(server)
    dead = DynamoDBPersistenceLayer(table, boto3_client=client_at(server.url), clock=clock)
    keys = IdempotencyConfig().keys
    batch = orders("order", 30)
    for order in batch[::3]:
        dead._put_record(claim(f"shop#{keys.key_hash(order)}", clock.now_ms(), "dead"))
    clock.advance(31)
    shop = Shop(LAYERS[flavour](server, table, clock=clock))
    assert shop.charge(batch, batch) == [["returned"] * 30, ["replayed"] * 30]
    assert len(shop.runs) == 30
    attempts = [dead._get_record(f"shop#{keys.key_hash(order)}").attempt for order in batch]
    assert attempts == [2, 1, 1] * 10


def test_a_takeover_compares_what_it_saw_and_never_inserts(service):
    clock = ManualClock()
    layer = sync_layer(service, new_table(service.server), clock=clock)
    first = [claim(f"order {number}", clock.now_ms(), "first") for number in range(6)]
    assert layer._for_each("put", first) == [None] * 6
    layer._delete_record(first[0])
    layer._update_record(outcome(first[1]))
    clock.advance(31)
    service.requests.clear()
    second = [each.replaced(owner="second", attempt=2, replaces=each, made_at_ms=clock.now_ms()) for each in first]
    second = [each.replaced(in_progress_expiry_timestamp=clock.now_ms() + 30_000) for each in second]
    told = layer._for_each("put", second)
    assert told[0] is None
    assert isinstance(told[1], IdempotencyItemAlreadyExistsError)
    assert told[2:] == [None] * 4
    assert service.requests == ["PutItem"] * 6
    layer.close()


def test_records_of_powertools_workers_are_replayed_waited_for_and_taken_over(server):
    clock, table = ManualClock(), new_table(server)
    client = client_at(server.url)
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


def test_an_owner_that_has_lost_its_record_is_told_so_and_the_others_complete(server):
    clock, table = ManualClock(), new_table(server)
    layer = DynamoDBPersistenceLayer(table, boto3_client=client_at(server.url), clock=clock)
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


def test_a_key_that_comes_twice_is_won_once(server):
    layer = DynamoDBPersistenceLayer(new_table(server), boto3_client=client_at(server.url), clock=ManualClock())
    claims = [claim(f"order {number % 5}", NOW_MS, f"owner {number}") for number in range(10)]
    told = layer._for_each("put", claims)
    assert told[:5] == [None] * 5
    assert all(isinstance(each, IdempotencyItemAlreadyExistsError) for each in told[5:])
    layer.close()


def test_large_answers_go_by_themselves_and_come_back_equal(service):
    layer = sync_layer(service, new_table(service.server))

    @idempotent_batch(persistence_store=layer, key_prefix="large")
    def charge(order):
        return "x" * {"order-1": LARGEST_TOGETHER + 1, "order-2": 500_000}.get(order["id"], 10)

    for status in ("returned", "replayed"):
        result = charge(orders("order", 10))
        assert [each.status for each in result] == [status] * 10
        assert [len(each.answer) for each in result] == [10, LARGEST_TOGETHER + 1, 500_000] + [10] * 7
    assert service.requests.count("outcome") + service.requests.count("PutItem") == 2
    layer.close()


def test_a_client_without_the_operation_sends_one_request_for_each(server):
    class Older(Client):
        def __getattr__(self, name):
            if name.startswith("batch_"):
                raise AttributeError(name)
            return super().__getattr__(name)

    client = Older(client_at(server.url))
    shop = Shop(DynamoDBPersistenceLayer(new_table(server), boto3_client=client))
    assert shop.charge(orders("order", 20), orders("order", 20)) == [["returned"] * 20, ["replayed"] * 20]
    assert client.requests == {"put_item": 60}
