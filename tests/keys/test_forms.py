"""The form in which a payload of each type is hashed, and which payloads have no key."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
import pathlib
import uuid
from collections import OrderedDict
from decimal import Decimal
from typing import Any, NamedTuple

import pydantic
import pytest

from retrysafe.exceptions import IdempotencyKeyError
from retrysafe.keys import PayloadKeys
from support.payloads import Colour, Event, Order, md5


class Level(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    X = "x"
    EMPTY = ""


class PricedEnum(Decimal, enum.Enum):
    A = "1.50"


class Model(pydantic.BaseModel):
    when: dt.datetime
    price: Decimal
    count: int = pydantic.Field(alias="COUNT")


class NothingModel(pydantic.BaseModel):
    a: int | None = None


class Items(pydantic.RootModel[list[int]]):
    pass


@pydantic.dataclasses.dataclass
class CheckedOrder:
    id: int


class Point(NamedTuple):
    x: Any
    y: Any


class WithDict:
    def dict(self) -> Any:
        return {"k": 1}


class WithDictAndRawEvent(WithDict):
    raw_event = {"other": 1}  # noqa: RUF012  # as event source classes have it


@dataclasses.dataclass
class OrderWithDict:
    id: int = 1

    def dict(self) -> Any:
        return {"k": 1}


FORMS = {
    "Decimal": (Decimal("1.10"), '"1.10"'),
    "Decimal with exponent": (Decimal("1E+5"), '"1E+5"'),
    "Decimal 0": (Decimal(0), '"0"'),
    "Decimal NaN": (Decimal("NaN"), "NaN"),
    "Decimal signalling NaN": (Decimal("sNaN"), "NaN"),
    "Decimal Infinity": (Decimal("Infinity"), '"Infinity"'),
    "Decimal -Infinity": (Decimal("-Infinity"), '"-Infinity"'),
    "Enum": (Colour.RED, '"red"'),
    "Enum of None": (Colour.NOTHING, "null"),
    "Enum of a tuple": (Colour.PAIR, "[1, 2]"),
    "Enum that is a Decimal": (PricedEnum.A, '"PricedEnum.A"'),
    "IntEnum": (Level.ONE, "1"),
    "StrEnum": (Word.X, '"x"'),
    "date": (dt.date(2026, 1, 2), '"2026-01-02"'),
    "naive datetime": (dt.datetime(2026, 1, 2, 3, 4, 5), '"2026-01-02T03:04:05"'),  # noqa: DTZ001  # its own form
    "datetime": (dt.datetime(2026, 1, 2, 3, 4, 5, 67, tzinfo=dt.UTC), '"2026-01-02T03:04:05.000067+00:00"'),
    "time": (dt.time(1, 2, 3), '"01:02:03"'),
    "UUID": (uuid.UUID(int=5), '"00000000-0000-0000-0000-000000000005"'),
    "path": (pathlib.PurePosixPath("/a/b"), '"/a/b"'),
    "windows path": (pathlib.PureWindowsPath(r"a\b"), r'"a\\b"'),
    "tuple": ((1, 2), "[1, 2]"),
    "named tuple": (Point(1, 2), "[1, 2]"),
    "OrderedDict": (OrderedDict(b=1, a=2), '{"a": 2, "b": 1}'),
    "dataclass": (Order("u", 5), '{"amount": 5, "id": "u"}'),
    "nested dataclass": (
        Order({"x": Order(1)}, [Point(Colour.RED, Order(Decimal(2)))]),
        '{"amount": [["red", {"amount": null, "id": "2"}]], "id": {"x": {"amount": null, "id": 1}}}',
    ),
    "dataclass with dict()": (OrderWithDict(), '{"id": 1}'),
    "pydantic dataclass": (CheckedOrder(id=3), '{"id": 3}'),
    "model, by field name": (
        Model(when=dt.datetime(2026, 1, 2, tzinfo=dt.UTC), price=Decimal("1.50"), COUNT=3),
        '{"count": 3, "price": "1.50", "when": "2026-01-02T00:00:00Z"}',
    ),
    "root model": (Items([1]), "[1]"),
    "dataclass in model in dataclass": (Order(Items([1])), '{"amount": null, "id": [1]}'),
    "nan": (math.nan, "NaN"),
    "infinities": ([math.inf, -math.inf], "[Infinity, -Infinity]"),
    "int keys": ({2: 1, 10: 2}, '{"2": 1, "10": 2}'),
    "float and int keys": ({1: 1, 0.5: 2}, '{"0.5": 2, "1": 1}'),
    "bool key": ({True: 1}, '{"true": 1}'),
    "None as a key": ({None: 1}, '{"null": 1}'),
    "StrEnum as a key": ({Word.X: 1, "b": 2}, '{"b": 2, "x": 1}'),
    "lone surrogate": ("\ud800", '"\\ud800"'),
    "big int": (10**30, "1" + 30 * "0"),
}


@pytest.mark.parametrize(("value", "text"), FORMS.values(), ids=FORMS)
def test_each_type_is_hashed_in_the_peers_form_as_a_payload_and_inside_one(value: Any, text: str) -> None:
    assert PayloadKeys().key_hash(value) == md5(text)
    assert PayloadKeys().key_hash({"a": value}) == md5(f'{{"a": {text}}}')
    assert PayloadKeys().hash_of([value]) == md5(f"[{text}]")


@pytest.mark.parametrize("payload", [WithDict(), WithDictAndRawEvent(), Event()], ids=["dict", "both", "raw"])
def test_an_object_with_dict_or_raw_event_is_a_payload_but_nothing_inside_one(payload: Any) -> None:
    assert PayloadKeys().key_hash(payload) == md5('{"k": 1}')
    assert PayloadKeys(event_key_jmespath="k").key_hash(payload) == md5("1")
    with pytest.raises(IdempotencyKeyError, match=r'^payload\["a"\]: a \S+ cannot be hashed'):
        PayloadKeys().key_hash({"a": payload})


class MakesUp(dict[str, Any]):
    """A dict that has every attribute, as addict's and python-box's."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name, MakesUp())


class DictWithRawEvent(dict[str, Any]):
    @property
    def raw_event(self) -> Any:
        return {"k": 1}


def test_a_dict_that_makes_up_attributes_is_the_payload_itself() -> None:
    assert PayloadKeys().key_hash(MakesUp(id=1)) == md5('{"id": 1}')
    assert PayloadKeys(event_key_jmespath="id").key_hash(MakesUp(id=1)) == md5("1")
    validating = PayloadKeys(payload_validation_jmespath="id")
    assert validating.payload_hash(MakesUp(id=1)) == md5("1")


def test_a_dict_has_the_attributes_that_the_peers_find_in_it() -> None:
    assigned = MakesUp(id=1)
    object.__setattr__(assigned, "raw_event", {"k": 1})
    for payload in (DictWithRawEvent(id=1), MakesUp(id=1, raw_event={"k": 1}), assigned):
        assert PayloadKeys().key_hash(payload) == md5('{"k": 1}')


NO_KEY = [None, "", Word.EMPTY, {}, [], (), {"a": None, "b": None}, [None], (None, None), Point(None, None)]
NO_KEY += [OrderedDict(), Order(), NothingModel(), Items([])]


@pytest.mark.parametrize("payload", NO_KEY, ids=repr)
def test_a_payload_that_tells_no_call_from_another_has_no_key(payload: Any) -> None:
    assert PayloadKeys().key_hash(payload) is None
    assert PayloadKeys().hash_of(payload) is None


@pytest.mark.parametrize("payload", [0, False, 0.0, [[]], [""], {"a": ""}, {"a": {"b": None}}, " "], ids=repr)
def test_zero_false_and_nested_emptiness_are_keys(payload: Any) -> None:
    assert PayloadKeys().key_hash(payload) == md5(json.dumps(payload))


def test_an_empty_dataclass_is_none_where_the_payload_is_one_and_is_one_where_it_is_a_dict_as_with_the_peers() -> None:
    keys = PayloadKeys(event_key_jmespath="id")
    assert keys.key_hash(Order(Order())) is None
    assert keys.key_hash(Order([Order()])) == md5('[{"amount": null, "id": null}]')
    assert keys.key_hash(Order(Order(1))) == md5('{"amount": null, "id": 1}')
    assert keys.key_hash({"id": Order()}) == md5('{"amount": null, "id": null}')
