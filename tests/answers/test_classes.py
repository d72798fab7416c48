"""Instances of classes come back where the function's own annotation names the class."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
from decimal import Decimal
from typing import Any, Generic, Self, TypeVar

import pytest

from retrysafe.answers import AnswerCodec, UnstorableAnswerError
from support.answers import Colour, Level, Line, Money, Order, Point, WithFee, codec_for, replayed
from support.exactness import same

ORDER_DATA = (
    '{"colour": [1, 2], "lines": [{"price": {"amount": "1", "currency": "EUR"}, "tags": ["x"], "what": "a"}],'
    ' "number": 1, "parent": {"colour": null, "lines": [], "number": 2, "parent": null}}'
)

Item = TypeVar("Item")


class Shape(enum.StrEnum):
    ROUND = "round"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Oddity(enum.Enum):
    WHATEVER = ...


@dataclasses.dataclass
class Base:
    number: int


@dataclasses.dataclass
class Derived(Base):
    name: str = ""

    @functools.cached_property
    def shout(self) -> str:
        return self.name.upper()


@dataclasses.dataclass
class Page(Generic[Item]):
    items: list[Item]


@pytest.mark.parametrize(
    ("answer", "data"),
    [
        (Colour.RED, '"red"'),
        (Colour.SAME, '"red"'),
        (Colour.MIXED, "[1, 2]"),
        (Level.HIGH, "2"),
        (Shape.ROUND, '"round"'),
        (Right.READ, "1"),
        (Right.READ | Right.WRITE, "3"),
        (Oddity.WHATEVER, '"WHATEVER"'),
        (Point(1, 2), "[1, 2]"),
        (Money(Decimal(1)), '{"amount": "1", "currency": "EUR"}'),
        (
            Order(1, [Line("a", Money(Decimal(1)), {"x"})], Colour.MIXED, Order(2, [])),
            ORDER_DATA,
        ),
        (WithFee(1, 2), '{"amount": 3, "total": 3}'),
        (Derived(1, "a"), '{"name": "a", "number": 1}'),
        (Page([Money(Decimal(2))]), '{"items": [{"amount": "2", "currency": "EUR"}]}'),
        (Page[Money]([Money(Decimal(2))]), '{"items": [{"amount": "2", "currency": "EUR"}]}'),
        ({Money(Decimal(3)): {Level.LOW: Shape.ROUND}}, None),
        ({Level.HIGH: 1, Level.LOW: 2}, '{"1": 2, "2": 1}'),
        ({Money(Decimal(3)), Point(1)}, None),
    ],
    ids=lambda value: repr(sorted(value, key=repr) if isinstance(value, set) else value),
)
def test_an_instance_of_a_class_that_the_annotation_names_comes_back(answer, data):
    codec = codec_for(Colour | Level | Shape | Right | Oddity | Point | Order | WithFee | Derived | Page[Money])

    for nested in (answer, {"a": [answer]}):
        stored = codec.encode(nested)
        assert same(codec.decode(stored.data, stored.types), nested)
        assert stored.plain == ()
    if data is not None:
        assert codec.encode(answer).data == data


def test_a_member_of_an_enum_without_a_name_of_its_own_is_refused():
    class Loose(enum.Enum):
        ONE = 1.5

        @classmethod
        def _missing_(cls, value: object) -> Any:
            made = object.__new__(cls)
            made._name_, made._value_ = "MADE", value
            return made

    with pytest.raises(UnstorableAnswerError, match="is a member without a name of its own"):
        codec_for(Loose).encode(Loose(2.5))


class Size(int, enum.Enum):
    """A number with a value of its own, as one with labels has it."""

    def __new__(cls, number: int, label: str) -> Self:
        made = int.__new__(cls, number)
        made._value_ = label
        return made

    SMALL = (1, "small")


def test_a_member_that_is_a_number_is_stored_as_that_number_whatever_its_value():
    for codec, back in ((codec_for(Size), Size.SMALL), (AnswerCodec(), 1)):
        stored = codec.encode([Size.SMALL])

        assert stored.data == json.dumps([Size.SMALL])
        assert same(codec.decode(stored.data, stored.types), [back])
    assert codec_for(Size).decode('["small"]', '{"v":1,"t":["list",[["enum","Size"]]]}') == [Size.SMALL]


def test_a_value_that_json_would_join_is_found_by_its_name():
    split = enum.Enum("split", [("A", "\ud83d\udc4d"), ("B", "\U0001f44d")])

    assert replayed([*split], codec_for(split)) == [*split]


def test_what_a_named_tuples_subclass_holds_beside_its_fields_comes_back():
    class Marked(Point):
        pass

    answer = Marked(1, 2)
    answer.note = ("a",)

    assert same(replayed(answer, codec_for(Marked)), answer)


def test_a_cached_property_is_left_out_and_worked_out_again():
    answer = Derived(1, "a")
    assert answer.shout == "A"

    back = replayed(answer, codec_for(Derived))

    assert back == answer
    assert "shout" not in vars(back)
    assert back.shout == "A"


def test_classes_of_one_name_are_told_apart_by_their_modules():
    one = dataclasses.make_dataclass("Twin", ["a"], namespace={"__module__": "shop.one"})
    two = dataclasses.make_dataclass("Twin", ["a"], namespace={"__module__": "shop.two"})
    one.__module__, two.__module__ = "shop.one", "shop.two"
    codec = codec_for(one | two)

    stored = codec.encode([one(1), two(1)])

    assert '"shop.one:Twin"' in stored.types
    assert [type(twin) for twin in codec.decode(stored.data, stored.types)] == [one, two]


def test_classes_that_nothing_tells_apart_come_back_plain():
    one, two = (dataclasses.make_dataclass("Twin", ["a"]) for _ in range(2))

    assert replayed([one(1), two(2)], codec_for(one | two)) == [{"a": 1}, {"a": 2}]
