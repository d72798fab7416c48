"""What a batch is, what its items are called in reports, and the wrong use that is refused before anything ran."""

from __future__ import annotations

import asyncio
import enum
import json
from collections import OrderedDict, UserDict

import pydantic
import pytest

from retrysafe import AsyncMemoryPersistenceLayer, IdempotencyConfig, MemoryPersistenceLayer, idempotent_batch
from retrysafe.exceptions import IdempotencyConfigError
from support.batches import BY_ID, DeclinedError, Work, orders, over_many, statuses, stored

# --- what a batch is, and what its items are called -------------------------------------------------------------------


def test_an_empty_batch_and_any_iterable_are_batches(flavour):
    charge = over_many(flavour, Work(), flavour.layer())
    assert list(charge([])) == []
    assert charge([]).batch_item_failures() == {"batchItemFailures": []}
    assert len(charge(order for order in orders(1, 2))) == 2


def test_further_arguments_go_to_each_item(flavour):
    result = over_many(flavour, Work(), flavour.layer())(orders(1, 2), note="x")
    assert [each.answer["note"] for each in result] == ["x", "x"]


def parsed(**fields):
    """A record as Powertools' parser gives it."""
    return pydantic.create_model("Record", **{name: (object, field) for name, field in fields.items()})()


KAFKA = {"topic": "orders", "partition": 3, "offset": 15, "key": "bzE=", "value": "e30="}


@pytest.mark.parametrize(
    ("record", "identifier"),
    [
        ({"messageId": "m1", "body": "{}"}, "m1"),
        ({"kinesis": {"sequenceNumber": "496", "data": ""}}, "496"),
        ({"dynamodb": {"SequenceNumber": "111", "Keys": {}}}, "111"),
        (parsed(messageId="m1"), "m1"),
        (parsed(kinesis=parsed(sequenceNumber="496")), "496"),
        (parsed(dynamodb=parsed(SequenceNumber="111")), "111"),
        (KAFKA, {"partition": "orders-3", "offset": 15}),
        (parsed(**KAFKA), {"partition": "orders-3", "offset": 15}),
        (parsed(id=7), None),
        ({"id": 7}, None),
        (["m1"], None),
    ],
)
def test_records_of_lambda_events_have_an_identifier(record, identifier):
    charge = idempotent_batch(lambda _: None, persistence_store=MemoryPersistenceLayer(), key_prefix="charge")
    assert charge([record])[0].item_identifier == identifier


def test_the_records_of_powertools_have_one_too_and_its_event_is_the_payload():
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord  # noqa: PLC0415  # slow to load

    config = IdempotencyConfig(event_key_jmespath="powertools_json(body).id")
    runs = []

    @idempotent_batch(persistence_store=MemoryPersistenceLayer(), config=config, key_prefix="charge")
    def charge(record):
        runs.append(record.json_body["id"])
        if record.json_body["id"] == 2:
            raise DeclinedError

    records = [SQSRecord({"messageId": f"m{n}", "body": json.dumps({"id": n // 2})}) for n in range(6)]
    assert charge(records).batch_item_failures() == {
        "batchItemFailures": [{"itemIdentifier": "m4"}, {"itemIdentifier": "m5"}]
    }
    assert runs == [0, 1, 2, 2]


def test_failures_of_kafka_are_reported_as_powertools_processor_reports_them():
    from aws_lambda_powertools.utilities.batch import (  # noqa: PLC0415  # slow to load
        BatchProcessor,
        EventType,
        process_partial_response,
    )
    from aws_lambda_powertools.utilities.data_classes.kafka_event import KafkaEventRecord  # noqa: PLC0415

    def charge(record):
        if record.offset in (16, 18):
            raise DeclinedError

    processor = BatchProcessor(event_type=EventType.Kafka)
    event = {"records": {"orders-3": [KAFKA | {"offset": offset} for offset in range(15, 19)]}}
    theirs = process_partial_response(event, record_handler=charge, processor=processor)
    over_many = idempotent_batch(charge, persistence_store=MemoryPersistenceLayer(), key_prefix="charge")
    records = [KafkaEventRecord(record) for record in processor.records]
    assert over_many(records).batch_item_failures() == theirs


def test_failures_are_reported_by_the_identifiers_that_the_caller_gives():
    charge = idempotent_batch(
        Work(2),
        persistence_store=MemoryPersistenceLayer(),
        key_prefix="charge",
        key=lambda order: order["id"],
        item_identifier=lambda order: f"order {order['id']}",
    )
    result = charge(orders(1, 2, 3))
    assert result.batch_item_failures() == {"batchItemFailures": [{"itemIdentifier": "order 2"}]}
    with pytest.raises(ExceptionGroup, match="1 of 3 items failed") as failures:
        result.raise_failures()
    assert failures.group_contains(DeclinedError, depth=1)
    charge(orders(1)).raise_failures()


def test_results_show_how_each_item_ended_and_neither_its_payload_nor_its_answer():
    charge = idempotent_batch(
        Work(2), persistence_store=MemoryPersistenceLayer(), key_prefix="charge", key=lambda order: order["id"]
    )
    result = charge([{"id": 1, "messageId": "m1"}, {"id": 2, "messageId": "m2"}, {"id": 3}])
    assert repr(result) == "<BatchResult of 3, 1 failed>"
    assert repr(result[:]) == "[<ItemResult m1 returned>, <ItemResult m2 raised DeclinedError>, <ItemResult returned>]"


def test_a_report_without_identifiers_is_refused_also_where_nothing_failed():
    charge = idempotent_batch(Work(), persistence_store=MemoryPersistenceLayer(), key_prefix="charge")
    with pytest.raises(IdempotencyConfigError, match="dict has not; give item_identifier"):
        charge(orders(1)).batch_item_failures()


# --- wrong use --------------------------------------------------------------------------------------------------------


class Model(pydantic.BaseModel):
    order: int


class Text(enum.StrEnum):
    ORDER = "order"


@pytest.mark.parametrize(
    "items",
    [
        {"Records": []},
        "text",
        b"bytes",
        7,
        None,
        OrderedDict(Records=[]),
        UserDict(Records=[]),  # a Mapping, as Powertools' SQSEvent is
        Model(order=1),
        Text.ORDER,
        memoryview(b"bytes"),
    ],
    ids=lambda items: type(items).__name__,
)
def test_what_is_no_batch_is_refused_before_anything_ran(flavour, items):
    work = Work()
    with pytest.raises(IdempotencyConfigError, match="takes a batch"):
        over_many(flavour, work, flavour.layer())(items)
    assert work.runs == []


@pytest.mark.parametrize(
    ("tell", "message"),
    [
        (lambda order: order["nr"], "failed on item 0"),
        (lambda order: None, "must tell a string; for item 0 it told None"),
        (lambda order: 7, "must tell a string; for item 0 it told 7"),
        (lambda order: "", "must tell a string; for item 0 it told ''"),
    ],
)
def test_an_item_identifier_that_does_not_tell_is_refused_before_anything_ran(flavour, tell, message):
    work = Work()
    with pytest.raises(IdempotencyConfigError, match=message):
        over_many(flavour, work, flavour.layer(), item_identifier=tell)(orders(1))
    assert work.runs == []


def test_a_key_that_cannot_be_told_fails_its_item_alone(flavour):
    result = over_many(flavour, Work(), flavour.layer(), None, key=lambda order: order["nr"])(
        [{"id": 1, "nr": 1}, {"id": 2}]
    )
    assert statuses(result) == ["returned", "raised"]
    assert isinstance(result[1].error, KeyError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency must be"),
        ({"concurrency": True}, "concurrency must be"),
        ({"concurrency": 2}, "is for `async def`"),
        ({"claimed_at_once": 0}, "claimed_at_once must be"),
        ({"record_after_seconds": -1}, "record_after_seconds must be"),
        ({"record_after_seconds": "1"}, "record_after_seconds must be"),
        ({"stop_at_failure": 1}, "stop_at_failure must be"),
        ({"key": "id"}, "key must be callable"),
        ({"item_identifier": "id"}, "item_identifier must be callable"),
        ({"key": len, "config": BY_ID}, "both say what makes the key"),
        ({"config": {}}, "config must be"),
    ],
)
def test_options_that_are_wrong_are_refused_when_decorating(options, message):
    with pytest.raises(IdempotencyConfigError, match=message):
        idempotent_batch(Work(), **{"persistence_store": MemoryPersistenceLayer(), "key_prefix": "charge", **options})


class Shop:
    def charge(self, order):
        return order["id"]

    nothing = staticmethod(lambda: None)


def test_a_method_is_passed_bound_and_a_function_takes_its_item_first():
    layer = MemoryPersistenceLayer()
    with pytest.raises(IdempotencyConfigError, match="pass the bound one"):
        idempotent_batch(Shop.charge, persistence_store=layer)
    assert [each.answer for each in idempotent_batch(Shop().charge, persistence_store=layer)(orders(1, 2))] == [1, 2]
    with pytest.raises(IdempotencyConfigError, match="must take the item as its first argument"):
        idempotent_batch(Shop.nothing, persistence_store=layer)
    with pytest.raises(IdempotencyConfigError, match="is asynchronous and"):
        idempotent_batch(Shop().charge, persistence_store=AsyncMemoryPersistenceLayer())


def test_a_url_opens_the_layer_that_the_function_needs(tmp_path):
    @idempotent_batch(persistence_store=f"sqlite:///{tmp_path}/records.db", key_prefix="charge")
    def charge(order):
        return order["id"]

    @idempotent_batch(persistence_store=f"sqlite:///{tmp_path}/records.db", key_prefix="charge")
    async def charge_async(order):
        raise AssertionError(order)

    assert statuses(charge(orders(1, 2))) == ["returned"] * 2
    assert statuses(asyncio.run(charge_async(orders(1, 2)))) == ["replayed"] * 2


def test_switched_off_all_items_run_straight_through(flavour, monkeypatch):
    monkeypatch.setenv("RETRYSAFE_DISABLED", "1")
    work, layer = Work(2), flavour.layer()
    with pytest.warns(UserWarning, match="switched off"):
        result = over_many(flavour, work, layer)(orders(1, 2, 1))
    assert statuses(result) == ["returned", "raised", "returned"]
    assert work.runs == [1, 2, 1]
    assert stored(flavour, layer) == []
