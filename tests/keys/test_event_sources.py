"""Events of AWS's services: the expressions on the page about Lambda tell a second delivery from another event."""

from __future__ import annotations

import base64
import copy
import json
import re
from pathlib import Path

import pytest

from retrysafe.keys import PayloadKeys

PAGE = Path(__file__).parents[2] / "docs" / "lambda.md"


def text(value):
    return json.dumps(value)


def data(value):
    return base64.b64encode(json.dumps(value).encode()).decode()


def order(number):
    return {"order_id": f"o{number}", "cents": 4200}


def request(header, number, delivery):
    return {"headers": {header: f"k{number}", "x-request": delivery}, "requestContext": {"requestId": delivery}}


def sqs(body, number, delivery):
    return {
        "messageId": f"m{number}",
        "receiptHandle": f"handle {delivery}",
        "body": body,
        "attributes": {"ApproximateReceiveCount": str(delivery), "MessageGroupId": "g"},
    }


def sns(number):
    return {"Type": "Notification", "MessageId": f"n{number}", "Message": text(order(number)), "Timestamp": "t"}


def event_of_bridge(number):
    return {"version": "0", "id": f"e{number}", "time": "2026-01-01T00:00:00Z", "detail": order(number)}


SOURCES = {
    "a request of a REST API": lambda n, d: request("Idempotency-Key", n, d),
    "a request of an HTTP API, a function URL, a load balancer": lambda n, d: request("idempotency-key", n, d),
    "a record of SQS": lambda n, d: sqs(text(order(n)), n, d),
    "the same, from SNS": lambda n, d: sqs(text(sns(n)), n, d),
    "the same, from EventBridge": lambda n, d: sqs(text(event_of_bridge(n)), n, d),
    "a record of SNS": lambda n, _: {"EventSource": "aws:sns", "Sns": sns(n)},
    "an event of EventBridge": lambda n, _: event_of_bridge(n),
    "a record of S3": lambda n, d: {
        "eventTime": f"2026-01-01T00:00:0{d}Z",
        "responseElements": {"x-amz-request-id": f"r{d}"},
        "s3": {"bucket": {"name": "b"}, "object": {"key": "k", "size": 1, "sequencer": f"00{n}"}},
    },
    "a record of Kinesis": lambda n, _: {
        "eventID": f"shardId-0:{n}",
        "kinesis": {"partitionKey": "p", "sequenceNumber": f"{n}", "data": data(order(n))},
    },
    "a record of a DynamoDB stream": lambda n, _: {"eventID": f"e{n}", "dynamodb": {"SequenceNumber": f"{n}"}},
    "a record of Kafka": lambda n, _: {"topic": "t", "partition": 0, "offset": n, "value": data(order(n))},
    "a task of Step Functions": lambda n, d: {"execution": f"arn:{n}", "state": "Pay", "tried": d},
}


def expressions():
    """Of each source, those in the table of the page."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \| .+ \|$", PAGE.read_text(), re.MULTILINE)
    found = {payload: column.split("`")[1::2] for payload, column in rows}
    return [(payload, each) for payload in SOURCES for each in found[payload] if not each.startswith("$")]


@pytest.mark.parametrize(("source", "expression"), expressions())
def test_a_second_delivery_has_the_key_of_the_first_and_another_event_has_another(source, expression):
    hash_of = PayloadKeys(event_key_jmespath=expression).key_hash
    make = SOURCES[source]
    first = hash_of(make(1, 1))
    assert first is not None, "no key"
    assert hash_of(copy.deepcopy(make(1, 2))) == first
    assert hash_of(make(2, 1)) not in (first, None)


def test_a_replay_out_of_the_archive_is_another_event_where_its_name_is_selected():
    event = event_of_bridge(1)
    replayed = event | {"replay-name": "again"}
    hashes = {PayloadKeys(event_key_jmespath='[id, "replay-name"]').key_hash(each) for each in (event, replayed)}
    assert len(hashes) == 2
