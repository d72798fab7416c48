"""Records as peers have them, byte for byte: what both running peers wrote stands in golden/."""

from __future__ import annotations

import json
import pathlib
from decimal import Decimal

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_function
from retrysafe.answers import AnswerCodec
from retrysafe.exceptions import IdempotencyPersistenceConsistencyError
from retrysafe.persistence.datarecord import COMPLETED, FAILED, INPROGRESS, UNAVAILABLE, DataRecord
from retrysafe.persistence.wire import AttributeNames, JsonText, from_attributes, to_attributes
from retrysafe.testing.clock import ManualClock

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
PYTHON = json.loads((GOLDEN / "powertools-python-3.37.0.json").read_text())["records"]
TYPESCRIPT = json.loads((GOLDEN / "powertools-typescript-2.35.0.json").read_text())
OURS = ("owner", "attempt", "types")


class Recording(MemoryPersistenceLayer):
    """Keeps every record that is written."""

    def __init__(self, clock):
        super().__init__(clock=clock)
        self.written = []

    def _put_record(self, data_record):
        super()._put_record(data_record)
        self.written.append(data_record)

    def _update_record(self, data_record):
        super()._update_record(data_record)
        self.written.append(data_record)


def written_by_us(at_seconds, validation):
    """What a call like the peer's writes at the same moment: the claim and the completion."""
    layer = Recording(ManualClock(int(at_seconds * 1000)))

    @idempotent_function(
        data_keyword_argument="order",
        persistence_store=layer,
        key_prefix="test-func.shop.orders.charge",
        config=IdempotencyConfig(
            event_key_jmespath="id",
            payload_validation_jmespath=validation,
            in_progress_expires_after_seconds=30,
        ),
    )
    def charge(order):
        return {"payment": "p1", "ok": True}

    charge(order={"id": 1, "amount": 5})
    return layer.written


def without_ours(attributes):
    return {name: value for name, value in attributes.items() if name not in OURS}


def test_a_claim_is_the_peers_bytes_with_our_attributes_behind_them():
    claim, _ = written_by_us(PYTHON["redis_written_at"], "amount")
    golden, _ = PYTHON["redis"]
    assert claim.idempotency_key == golden["name"]
    attributes = to_attributes(claim)
    assert json.dumps(without_ours(attributes)) == golden["value"]
    assert json.dumps(attributes).startswith(golden["value"].removesuffix("}"))
    assert list(attributes)[-2:] == ["owner", "attempt"]


def test_a_completion_is_the_peers_bytes_and_keeps_the_payload_hash():
    _, completion = written_by_us(PYTHON["redis_written_at"], "amount")
    _, golden = PYTHON["redis"]
    attributes = without_ours(to_attributes(completion))
    assert attributes.pop("validation") == json.loads(PYTHON["redis"][0]["value"])["validation"]
    assert json.dumps(attributes) == golden["value"]


def in_dynamodb(attributes):
    """The attributes in DynamoDB's own notation."""
    return {
        name: {"N": str(value)} if isinstance(value, int) else {"S": value}
        for name, value in attributes.items()
        if name not in OURS
    }


def test_the_attributes_are_those_of_the_peers_dynamodb_items():
    claim, completion = written_by_us(PYTHON["dynamodb_written_at"], "amount")
    put, _update = PYTHON["dynamodb_calls"]
    assert put["params"]["Item"] == {"id": {"S": claim.idempotency_key}} | in_dynamodb(to_attributes(claim))
    (item,) = PYTHON["dynamodb_item_completed"]
    lease = {"in_progress_expiration": item["in_progress_expiration"]}
    assert item == {"id": {"S": claim.idempotency_key}} | lease | in_dynamodb(to_attributes(completion))


@pytest.mark.parametrize("written", PYTHON["redis"], ids=["claim", "completion"])
def test_what_the_python_peer_wrote_is_read(written):
    attributes = json.loads(written["value"])
    record = from_attributes(written["name"], attributes)
    assert record.owner is None
    assert without_ours(to_attributes(record)) == attributes


@pytest.mark.parametrize("written", TYPESCRIPT["cache"], ids=lambda written: json.loads(written["value"])["status"])
def test_what_the_typescript_peer_wrote_is_read_with_its_answer_as_a_value(written):
    attributes = json.loads(written["value"])
    record = from_attributes(written["name"], attributes)
    assert (record.stored_status, record.expiry_timestamp) == (attributes["status"], attributes["expiration"])
    if record.stored_status == COMPLETED:
        assert AnswerCodec().decode(record.response_data, record.types) == attributes["data"]


def test_decimals_out_of_a_store_without_floats_are_the_numbers_that_a_typescript_worker_returned():
    data = {"n": [Decimal(1), Decimal("2.5"), Decimal("1E+3"), None], "ok": True}
    record = from_attributes("k", {"status": COMPLETED, "data": data})
    assert record.response_data == '{"n": [1, 2.5, 1000, null], "ok": true}'


@pytest.mark.parametrize("data", [b"bytes", {"s": {1, 2}}, Decimal("NaN")], ids=str)
def test_an_answer_that_is_no_json_value_is_no_record(data):
    with pytest.raises(IdempotencyPersistenceConsistencyError, match="attribute 'data'"):
        from_attributes("k", {"status": COMPLETED, "data": data})


def test_a_peers_answer_that_is_nested_too_deep_is_refused():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(IdempotencyPersistenceConsistencyError, match="attribute 'data'"):
        from_attributes("k", {"status": COMPLETED, "data": nested})
    record = from_attributes("k", {"status": COMPLETED, "data": "[" * 100_000 + "]" * 100_000})
    with pytest.raises(IdempotencyPersistenceConsistencyError, match="nested too deeply"):
        AnswerCodec().decode(record.response_data, record.types)


def test_a_peers_answer_with_more_digits_than_python_reads_here_is_refused_and_not_taken_for_a_text():
    record = from_attributes("k", {"status": COMPLETED, "data": f'{{"n": {"7" * 5000}}}'})
    with pytest.raises(IdempotencyPersistenceConsistencyError, match="more digits"):
        AnswerCodec().decode(record.response_data, record.types)


def test_renamed_attributes_are_honoured_in_both_directions():
    names = AttributeNames(expiry="e", in_progress_expiry="i", status="s", data="d", validation="v")
    for record in (
        DataRecord("k", INPROGRESS, 5, 6000, "", "h", None, "o", 3),
        DataRecord("k", FAILED, 5, None, "{}", "h", None, "o", 3, '{"v": 1}'),
    ):
        attributes = to_attributes(record, names)
        assert {"e", "s", "v", "owner", "attempt"} <= set(attributes) <= {"e", "i", "s", "d", "v", *OURS}
        assert from_attributes("k", attributes, names) == record


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"status": 5},
        {"status": ""},
        {"status": "COMPLETED", "expiration": "soon"},
        {"status": "COMPLETED", "expiration": float("inf")},
        {"status": "INPROGRESS", "in_progress_expiration": []},
        {"status": "COMPLETED", "validation": 5},
        {"status": "COMPLETED", "owner": {}},
    ],
    ids=str,
)
def test_what_is_no_record_is_refused_by_the_name_of_its_attribute(attributes):
    with pytest.raises(IdempotencyPersistenceConsistencyError, match=r"attribute .(status|e|in|v|o)"):
        from_attributes("k", attributes)


@pytest.mark.parametrize(
    "names", [AttributeNames(), AttributeNames('w"', "ä", "s\n", "d", "v")], ids=["default", "odd"]
)
@pytest.mark.parametrize("changes", [{}, {"owner": None}, {"payload_hash": "e4da"}, {"types": '{"v": 1}'}], ids=str)
@pytest.mark.parametrize("status", [INPROGRESS, COMPLETED, FAILED, UNAVAILABLE, "LATER"])
def test_a_text_with_gaps_is_the_text_of_the_attributes(status, changes, names):
    record = DataRecord("k", status, 1795306257, owner="o", response_data='{"a": "\u00e9 \\" \n"}').replaced(**changes)
    if status == INPROGRESS:
        record = record.replaced(in_progress_expiry_timestamp=1795302687816)
    before, between, after = JsonText(names).parts(record)
    lease = record.in_progress_expiry_timestamp
    text = f"{before}1795306257{between}{'' if lease is None else lease}{after}"
    assert text == json.dumps(to_attributes(record, names))
    assert "\n" not in text
