"""The table of options that Powertools and retrysafe are compared by: payloads, configs, serializers and answers."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import gzip
import importlib
import json
import pathlib
import uuid
from decimal import Decimal
from typing import Any

import pydantic
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from jmespath import functions


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Line:
    sku: str
    price: Decimal


@dataclasses.dataclass
class Order:
    id: str
    lines: list[Line]
    at: dt.datetime
    colour: Colour


class Model(pydantic.BaseModel):
    id: str
    price: Decimal
    at: dt.datetime
    token: uuid.UUID
    colour: Colour


@dataclasses.dataclass
class Receipt:
    number: str
    cents: int


@dataclasses.dataclass
class PricedReceipt:
    """Makes of what a replay reads what the function returned."""

    number: str
    price: Decimal

    def __post_init__(self):
        self.price = Decimal(self.price)


class ReceiptModel(pydantic.BaseModel):
    number: str
    cents: int


class WithDict:
    """Anything with a method `dict`."""

    def dict(self):
        return {"id": "o1", "amount": 5}


class OwnFunctions(functions.Functions):
    @functions.signature({"types": ["string"]})
    def _func_lowered(self, text):
        return text.lower()


class Context:
    def get_remaining_time_in_millis(self):
        return 60_000


PLAIN = {"id": "o1", "amount": 5, "note": "é ☃"}
AT = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
TYPED = {
    "amount": Decimal("1.10"),
    "at": [AT, AT.date(), AT.time(), AT.replace(tzinfo=None)],
    "id": uuid.UUID(int=7),
    "kinds": (Colour.RED, Level.HIGH),
    "file": pathlib.PurePosixPath("/a/b"),
    "order": Order("o1", [Line("s", Decimal("2.50"))], AT, Colour.RED),
}
BODY = {"body": json.dumps(PLAIN), "headers": {"X": "1"}}
PACKED = {"data": base64.b64encode(gzip.compress(json.dumps(PLAIN).encode())).decode()}
SQS = SQSRecord({"messageId": "m1", "body": json.dumps(PLAIN), "attributes": {}, "messageAttributes": {}})
GATEWAY = APIGatewayProxyEventV2({"body": json.dumps(PLAIN), "queryStringParameters": {"a": "1"}, "rawPath": "/p"})
RECEIPT = {"number": "r1", "cents": 4200}


@dataclasses.dataclass
class Case:
    """One row: the payload, the options of the config and of the decorator, and what the function returns."""

    payload: Any
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    decorator: dict[str, Any] = dataclasses.field(default_factory=dict)
    answer: Any = dataclasses.field(default_factory=lambda: {"payment": "p1", "lines": [1, 2.5, None, "é"], "": False})
    returns: Any = None
    serializer: Any = lambda _: None


def model_serializer(name, model=None):
    """The class, which takes its model from the annotation, or an instance for `model`."""
    module, _, kind = name.partition(".")

    def made(library):
        found = getattr(importlib.import_module(f"{library}.serialization.{module}"), kind)
        return found if model is None else found(model=model)

    return made


def custom_serializer(library):
    kind = importlib.import_module(f"{library}.serialization.custom_dict").CustomDictSerializer
    return kind(to_dict=dataclasses.asdict, from_dict=lambda found: Receipt(**found))


CASES = {
    "whole payload": Case(PLAIN),
    "list": Case([1, "a", {"b": [None, 1.5]}]),
    "text": Case("order-1"),
    "number": Case(17),
    "typed values": Case(TYPED),
    "typed values, selected": Case(TYPED, {"event_key_jmespath": "[id, at, amount, kinds, file]"}),
    "dataclass": Case(TYPED["order"]),
    "dataclass, selected": Case(TYPED["order"], {"event_key_jmespath": "[id, lines[].price, at, colour]"}),
    "dataclass, with functions": Case(TYPED["order"], {"event_key_jmespath": "[to_string(lines), keys(lines[0]), id]"}),
    "model": Case(Model(id="o1", price="1.50", at=AT, token=uuid.UUID(int=8), colour="red")),
    "model, selected": Case(
        Model(id="o1", price="1.50", at=AT, token=uuid.UUID(int=8), colour="red"),
        {"event_key_jmespath": "[price, token]", "payload_validation_jmespath": "at"},
    ),
    "an object with dict()": Case(WithDict()),
    "SQS record": Case(SQS),
    "SQS record, selected": Case(SQS, {"event_key_jmespath": "messageId", "payload_validation_jmespath": "body"}),
    "API gateway": Case(
        GATEWAY,
        {"event_key_jmespath": "[powertools_json(body).id, queryStringParameters]", "hash_function": "sha256"},
    ),
    "selection": Case(PLAIN, {"event_key_jmespath": "[id, amount, missing]"}),
    "selected object": Case(PLAIN, {"event_key_jmespath": "{order: id, none: missing}"}),
    "validation": Case(PLAIN, {"event_key_jmespath": "id", "payload_validation_jmespath": "[amount, note]"}),
    "validation of typed values": Case(TYPED, {"event_key_jmespath": "id", "payload_validation_jmespath": "@"}),
    "powertools_json": Case(BODY, {"event_key_jmespath": "powertools_json(body).[id, amount]"}),
    "powertools_base64_gzip": Case(
        PACKED,
        {
            "event_key_jmespath": "powertools_json(powertools_base64_gzip(data)).id",
            "payload_validation_jmespath": "powertools_base64_gzip(data)",
        },
    ),
    "powertools_base64": Case(
        {"data": base64.b64encode(b"text").decode()}, {"event_key_jmespath": "powertools_base64(data)"}
    ),
    "own functions": Case(
        {"id": "O1", "amount": 5},
        {
            "event_key_jmespath": "lowered(id)",
            "payload_validation_jmespath": "[lowered(id), amount]",
            "jmespath_options": {"custom_functions": OwnFunctions()},
        },
    ),
    **{f"hash {name}": Case(PLAIN, {"hash_function": name}) for name in ("sha1", "sha512", "blake2b", "sha3_256")},
    "local cache": Case(PLAIN, {"use_local_cache": True, "local_cache_max_items": 1}),
    "local cache and validation": Case(
        PLAIN, {"use_local_cache": True, "event_key_jmespath": "id", "payload_validation_jmespath": "amount"}
    ),
    "raise_on_no_idempotency_key": Case(PLAIN, {"raise_on_no_idempotency_key": True, "event_key_jmespath": "id"}),
    "short window": Case(PLAIN, {"expires_after_seconds": 600}),
    "DataclassSerializer, deduced": Case(
        PLAIN, answer=Receipt(**RECEIPT), returns=Receipt, serializer=model_serializer("dataclass.DataclassSerializer")
    ),
    "DataclassSerializer, optional": Case(
        PLAIN,
        answer=Receipt(**RECEIPT),
        returns=Receipt | None,
        serializer=model_serializer("dataclass.DataclassSerializer"),
    ),
    "DataclassSerializer, given": Case(
        PLAIN, answer=Receipt(**RECEIPT), serializer=model_serializer("dataclass.DataclassSerializer", Receipt)
    ),
    "DataclassSerializer, made by its own code": Case(
        PLAIN,
        answer=PricedReceipt("r1", Decimal("42.00")),
        returns=PricedReceipt,
        serializer=model_serializer("dataclass.DataclassSerializer"),
    ),
    "PydanticSerializer, deduced": Case(
        PLAIN,
        answer=ReceiptModel(**RECEIPT),
        returns=ReceiptModel,
        serializer=model_serializer("pydantic.PydanticSerializer"),
    ),
    "PydanticSerializer, given": Case(
        PLAIN, answer=ReceiptModel(**RECEIPT), serializer=model_serializer("pydantic.PydanticSerializer", ReceiptModel)
    ),
    "CustomDictSerializer": Case(PLAIN, answer=Receipt(**RECEIPT), serializer=custom_serializer),
    "a serializer, and None": Case(
        PLAIN, answer=None, returns=Receipt | None, serializer=model_serializer("dataclass.DataclassSerializer")
    ),
}
