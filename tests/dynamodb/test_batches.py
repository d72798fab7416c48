"""Batches on DynamoDB: the records of single calls, in few requests; what a statement cannot do goes by itself."""

from __future__ import annotations

import pytest

from retrysafe import idempotent_batch
from retrysafe.persistence._dynamodb.items import Items
from retrysafe.persistence._dynamodb.statements import LARGEST_TOGETHER, Statements, is_unsupported
from retrysafe.persistence.datarecord import FAILED, UNAVAILABLE
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.persistence.wire import AttributeNames
from retrysafe.testing.clock import ManualClock
from support.dynamodb_batches import LAYERS, READS, STATEMENTS, TIME, Client, Shop, claim, orders, outcome
from support.dynamodb_support import client_at, items_of, new_table, sync_layer

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
def test_records_are_those_of_single_calls_to_the_byte(each_dynamodb, setting):
    options = SETTINGS[setting]
    tables = [table_for(each_dynamodb, options) for _ in range(2)]
    together, alone = (
        DynamoDBPersistenceLayer(table, boto3_client=client_at(each_dynamodb.url), clock=ManualClock(), **options)
        for table in tables
    )
    for number, change in enumerate(OUTCOMES):
        claims = [each.replaced(idempotency_key=f"{number} {each.idempotency_key}") for each in CLAIMS]
        assert together._for_each("put", claims) == [None] * len(claims)
        for each in claims:
            alone._put_record(each)
        assert by_key(each_dynamodb, tables[0], options) == by_key(each_dynamodb, tables[1], options)
        done = [outcome(each, **change) for each in claims if each.owner]
        assert together._for_each("update", done) == [None] * len(done)
        for each in done:
            alone._update_record(each)
        assert by_key(each_dynamodb, tables[0], options) == by_key(each_dynamodb, tables[1], options)
    together.close()


@pytest.mark.parametrize("setting", SETTINGS)
def test_only_names_that_need_escapes_keep_records_from_going_together(each_service, setting):
    options = SETTINGS[setting]
    layer = sync_layer(each_service, table_for(each_service.server, options), **options)
    batch = orders("order", 20)
    assert Shop(layer).charge(batch, batch) == [["returned"] * 20, ["replayed"] * 20]
    if setting == "names that need escapes":
        assert each_service.requests == [TIME] + ["PutItem"] * 60
    else:
        assert each_service.requests == [TIME] + [STATEMENTS] * 3 + [READS]


@pytest.mark.parametrize("name", ["expiry", "in_progress_expiry", "status", "data", "validation"])
def test_one_name_that_needs_escapes_is_enough(name):
    def possible(table="orders", names=None, key="id", sort_key=None):
        return Statements(table, Items(names or AttributeNames(), key, sort_key, "all")).are_possible

    assert possible()
    assert possible("the.orders-1_a", sort_key="sk")
    assert not possible(names=AttributeNames(**{name: "it's"}))
    assert not possible('the"orders')
    assert not possible(key="the.id")
    assert not possible(sort_key="s k")


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        ("UnknownOperation", "", True),
        ("UnknownOperationException", "", True),
        ("com.amazonaws.dynamodb.v20120810#UnknownOperationException", "", True),
        ("NotImplemented", "", True),
        ("ValidationException", "BatchExecuteStatement is not supported", True),
        ("ValidationException", "BatchGetItem is not supported", True),
        ("ValidationException", "one of the items is too large", False),
        ("ValidationError", "Statement wasn't well formed", True),
        ("ValidationError", "one of the items is too large", False),
        ("ThrottlingException", "BatchExecuteStatement is not well formed", False),
    ],
)
def test_a_server_without_such_operations_is_known_by_what_it_says(code, said, expected):
    assert is_unsupported({"Error": {"Code": code, "Message": said}}) is expected


@pytest.mark.parametrize("flavour", LAYERS)
def test_a_batch_of_fifty_is_four_requests_once_the_time_is_known_and_a_replayed_one_three(each_service, flavour):
    shop = Shop(LAYERS[flavour](each_service, new_table(each_service.server)))
    assert shop.charge(orders("order", 50)) == [["returned"] * 50]
    assert each_service.requests == [TIME] + [STATEMENTS] * 4
    each_service.requests.clear()
    assert shop.charge(orders("order", 50)) == [["replayed"] * 50]
    assert sorted(each_service.requests) == [STATEMENTS] * 2 + [READS]
    each_service.requests.clear()
    assert shop.charge(orders("single", 1), orders("order", 1)) == [["returned"], ["replayed"]]
    assert sorted(each_service.requests) == ["PutItem", "PutItem", "outcome"]


def test_what_stands_is_read_with_every_write_that_came_before(dynoxide, table):
    client, looks = Client(client_at(dynoxide.url)), []
    client.instead["batch_get_item"] = lambda method, parameters: looks.append(parameters) or method(**parameters)
    shop = Shop(DynamoDBPersistenceLayer(table, boto3_client=client))
    assert shop.charge(orders("order", 2), orders("order", 2)) == [["returned"] * 2, ["replayed"] * 2]
    assert [each["RequestItems"][table]["ConsistentRead"] for each in looks] == [True]


@pytest.mark.parametrize("operation", ["get", "put", "update", "renew", "delete"])
def test_no_record_is_no_request(service, table, operation):
    with sync_layer(service, table) as layer:
        assert layer._for_each(operation, []) == []
    assert service.requests == []


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


def test_large_answers_go_by_themselves_and_come_back_equal(each_service):
    layer = sync_layer(each_service, new_table(each_service.server))

    @idempotent_batch(persistence_store=layer, key_prefix="large", record_after_seconds=60)
    def charge(order):
        return "x" * {"order-1": LARGEST_TOGETHER + 1, "order-2": 500_000}.get(order["id"], 10)

    for status in ("returned", "replayed"):
        result = charge(orders("order", 10))
        assert [each.status for each in result] == [status] * 10
        assert [len(each.answer) for each in result] == [10, LARGEST_TOGETHER + 1, 500_000] + [10] * 7
    assert each_service.requests.count("outcome") + each_service.requests.count("PutItem") == 2
    layer.close()


def test_a_client_without_the_operation_sends_one_request_for_each(each_dynamodb):
    class Older(Client):
        def __getattr__(self, name):
            if name.startswith("batch_"):
                raise AttributeError(name)
            return super().__getattr__(name)

    client = Older(client_at(each_dynamodb.url))
    shop = Shop(DynamoDBPersistenceLayer(new_table(each_dynamodb), boto3_client=client))
    assert shop.charge(orders("order", 20), orders("order", 20)) == [["returned"] * 20, ["replayed"] * 20]
    assert client.requests == {"get_item": 1, "put_item": 60}
