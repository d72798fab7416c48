"""Instances of classes that no annotation names come back plain, and these classes are named."""

from __future__ import annotations

import dataclasses
import enum
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from retrysafe.answers import AnswerCodec
from support.answers import Colour, InvoiceLine, Level, Line, Money, Names, Point, codec_for
from support.exactness import same

if TYPE_CHECKING:
    from somewhere_else import Unheard


class Shape(enum.StrEnum):
    ROUND = "round"


def name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__name__}"


@pytest.mark.parametrize(
    ("answer", "data", "back", "plain"),
    [
        (Colour.RED, '"red"', "red", Colour),
        (Colour.MIXED, "[1, 2]", (1, 2), Colour),
        (Level.HIGH, "2", 2, Level),
        (Shape.ROUND, '"round"', "round", Shape),
        (Point(1, 2), "[1, 2]", (1, 2), Point),
        (
            Money(Decimal(1)),
            '{"amount": "1", "currency": "EUR"}',
            {"amount": Decimal(1), "currency": "EUR"},
            Money,
        ),
        (
            InvoiceLine(What="a", price=1),
            '{"price": "1", "what": "a!"}',
            {"price": "1", "what": "a!"},
            InvoiceLine,
        ),
        (
            {Money(Decimal(1))},
            '[{"amount": "1", "currency": "EUR"}]',
            [{"amount": Decimal(1), "currency": "EUR"}],
            Money,
        ),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_an_instance_of_a_class_that_nothing_names_comes_back_plain_and_is_named(answer, data, back, plain):
    for return_type in (None, Any, dict, object, Line):
        codec = codec_for(return_type if plain is not Money else None)  # a Line names it
        stored = codec.encode(answer)
        assert (stored.data, stored.plain) == (data, (name_of(plain),))
        assert same(codec.decode(stored.data, stored.types), back)


@pytest.mark.parametrize(
    ("answer", "back"),
    [
        (Colour.RED, "red"),
        (Colour.MIXED, [1, 2]),
        (Point(1, 2), (1, 2)),
        (Money(Decimal(1)), {"amount": Decimal(1), "currency": "EUR"}),
        (InvoiceLine(What="a", price=1), {"price": "1", "what": "a!"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_record_never_names_a_class_that_the_annotation_does_not(answer, back):
    stored = codec_for(type(answer)).encode(answer)

    assert same(AnswerCodec().decode(stored.data, stored.types), back)
    assert same(codec_for(Names).decode(stored.data, stored.types), back)


def test_a_mark_does_not_make_one_kind_of_class_out_of_another():
    types = codec_for(Money).encode(Money(Decimal(1))).types.replace("Money", "Point")

    assert codec_for(Point).decode('{"amount": "1", "currency": "EUR"}', types) == {
        "amount": Decimal(1),
        "currency": "EUR",
    }


def test_an_annotation_that_cannot_be_resolved_counts_as_none():
    def function() -> Unheard:
        raise NotImplementedError

    stored = AnswerCodec(function).encode(Money(Decimal(1)))

    assert stored.plain == (name_of(Money),)


def test_a_field_whose_annotation_cannot_be_resolved_hides_only_itself():
    @dataclasses.dataclass
    class Half:
        unheard: Unheard
        money: Money

    codec = codec_for(Half)
    stored = codec.encode(Half(Colour.RED, Money(Decimal(1))))

    assert stored.plain == (name_of(Colour),)
    assert codec.decode(stored.data, stored.types) == Half("red", Money(Decimal(1)))
