"""Answers whose classes have changed since the record was written, and records that cannot be read."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import enum
from typing import NamedTuple

import pydantic
import pytest

from retrysafe.answers import AnswerCodec
from retrysafe.exceptions import IdempotencyPersistenceConsistencyError
from support.answers import Colour, InvoiceLine, Money, Point, codec_for, replayed

# Classes that changed since the record was written


def test_a_field_added_with_a_default_takes_it_and_a_removed_one_is_passed_over():
    was = dataclasses.make_dataclass("Thing", [("a", int), ("gone", int)])
    now = dataclasses.make_dataclass(
        "Thing", [("a", int), ("b", int, 5), ("c", list, dataclasses.field(default_factory=list))]
    )
    stored = codec_for(was).encode(was(1, 2))

    assert codec_for(now).decode(stored.data, stored.types) == now(1, 5, [])


def set_beside_the_fields():
    @dataclasses.dataclass
    class Thing:
        amount: int

        def __post_init__(self):
            self.total = self.amount * 2

    return Thing


def worked_out():
    @dataclasses.dataclass
    class Thing:
        amount: int

        @property
        def total(self):
            return self.amount * 2

    return Thing


def without_a_place():
    @dataclasses.dataclass(slots=True)
    class Thing:
        amount: int

    return Thing


@pytest.mark.parametrize("made", [worked_out, without_a_place])
def test_an_attribute_beside_the_fields_that_the_class_takes_no_longer_is_passed_over(made):
    was, now = named_alike(set_beside_the_fields(), made())
    stored = codec_for(was).encode(was(3))

    assert codec_for(now).decode(stored.data, stored.types) == now(3)


def test_an_attribute_beside_the_fields_that_has_become_one_keeps_its_value():
    was = set_beside_the_fields()
    now = dataclasses.make_dataclass("Thing", ["amount", "total"])
    named_alike(was, now)
    stored = codec_for(was).encode(was(3))

    assert codec_for(now).decode(stored.data, stored.types) == now(3, 6)


def named_alike(*classes):
    for each in classes:
        each.__qualname__ = "Thing"
    return classes


def test_a_model_field_added_with_a_default_takes_it_and_a_removed_one_is_passed_over():
    was = pydantic.create_model("Thing", a=(int, ...), gone=(int, ...))
    now = pydantic.create_model("Thing", a=(int, ...), b=(list, pydantic.Field(default_factory=list)))
    stored = codec_for(was).encode(was(a=1, gone=2))

    assert codec_for(now).decode(stored.data, stored.types) == now(a=1)


def test_a_default_that_a_caller_changes_is_not_changed_for_the_next_one():
    was, now = pydantic.create_model("Thing"), pydantic.create_model("Thing", tags=(list, []))
    codec, stored = codec_for(now), codec_for(was).encode(was())

    codec.decode(stored.data, stored.types).tags.append("mine")

    assert codec.decode(stored.data, stored.types).tags == now().tags == []


def test_a_named_tuple_takes_the_defaults_of_fields_added_at_its_end():
    was = collections.namedtuple("Thing", ["a"])  # noqa: PYI024  # like the next one
    now = collections.namedtuple("Thing", ["a", "b"], defaults=[5])  # noqa: PYI024  # with a default
    stored = codec_for(was).encode(was(1))

    assert replayed(now(1), codec_for(now)) == codec_for(now).decode(stored.data, stored.types) == now(1, 5)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (dataclasses.make_dataclass("Thing", ["a"]), dataclasses.make_dataclass("Thing", ["a", "b"])),
        (
            pydantic.create_model("Thing", a=(int, ...)),
            pydantic.create_model("Thing", a=(int, ...), b=(int, ...)),
        ),
        (NamedTuple("Thing", [("a", int)]), NamedTuple("Thing", [("a", int), ("b", int)])),
        (enum.Enum("Thing", [("A", 1), ("B", 2)]), enum.Enum("Thing", [("B", 2)])),
    ],
    ids=["dataclass", "model", "NamedTuple", "Enum"],
)
def test_an_answer_that_the_class_can_no_longer_hold_is_refused(was, now):
    stored = codec_for(was).encode(was(a=1) if not issubclass(was, enum.Enum) else was(1))

    with pytest.raises(IdempotencyPersistenceConsistencyError):
        codec_for(now).decode(stored.data, stored.types)


# What cannot be read


def types_nested(levels: int) -> str:
    return '{"v":1,"t":' + '["via",null,' * levels + "null" + "]" * levels + "}"


@pytest.mark.parametrize(
    ("data", "types"),
    [("[" * 200_000 + "]" * 200_000, ""), ("1", types_nested(200_000)), ("1", types_nested(600))],
    ids=["data", "types", "reading by types"],
)
def test_what_is_too_deep_to_be_read_is_told_apart_from_what_is_no_json(data, types):
    with pytest.raises(IdempotencyPersistenceConsistencyError, match="nested too deeply to be read here"):
        AnswerCodec().decode(data, types)


@pytest.mark.parametrize(
    ("data", "types"),
    [
        ("{", ""),
        ("nonsense", ""),
        ("1 2", ""),
        ("[" * 100_000, ""),
        ("1", "nonsense"),
        ("1", "[]"),
        ("1", "{}"),
        ("1", '{"v":1}'),
        ("1", '{"v":2,"t":null}'),
        ("1", '{"v":"1","t":null}'),
        ("1", '{"v":1,"t":"Decimal"}'),
        ('"x"', '{"v":1,"t":"Decimal"}'),
        ('"x"', '{"v":1,"t":"unheard"}'),
        ('"x"', '{"v":1,"t":["unheard",1]}'),
        ('"x"', '{"v":1,"t":[]}'),
        ('"x"', '{"v":1,"t":{}}'),
        ('"x"', '{"v":1,"t":7}'),
        ('"x"', '{"v":1,"t":"list"}'),
        ("[1]", '{"v":1,"t":["list",{"1":"tuple"}]}'),
        ("[1]", '{"v":1,"t":["list",["tuple","tuple"]]}'),
        ('{"a": 1}', '{"v":1,"t":["dict",{"b":"float"}]}'),
        ('{"a": 1}', '{"v":1,"t":["dict",null,["int"]]}'),
        ("[1]", '{"v":1,"t":"pairs"}'),
        ('"2026-13-01"', '{"v":1,"t":"date"}'),
        ('"P1Y"', '{"v":1,"t":"timedelta"}'),
        ('"*"', '{"v":1,"t":"bytes"}'),
        ('"maybe"', '{"v":1,"t":"bool"}'),
        ('"green"', '{"v":1,"t":["enum","Colour"]}'),
        ("[1, 2, 3]", '{"v":1,"t":["namedtuple","Point"]}'),
        ('{"a": 1}', '{"v":1,"t":["dataclass","Money"]}'),
        ("[]", '{"v":1,"t":["model","InvoiceLine"]}'),
    ],
)
def test_what_cannot_be_read_is_refused(data, types):
    with pytest.raises(IdempotencyPersistenceConsistencyError):
        codec_for(Colour | Point | Money | InvoiceLine).decode(data, types)


def test_what_is_no_number_is_refused_also_where_the_callers_decimals_would_be_nan():
    with decimal.localcontext(traps=[]), pytest.raises(IdempotencyPersistenceConsistencyError):
        AnswerCodec().decode('"x"', '{"v":1,"t":"Decimal"}')


def test_a_later_version_is_named():
    with pytest.raises(IdempotencyPersistenceConsistencyError, match="of version 7, and only 1 is known here"):
        AnswerCodec().decode("1", '{"v":7,"t":null}')
