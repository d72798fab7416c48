"""Which classes a return annotation names, in whatever form it is written."""

from __future__ import annotations

import collections.abc  # noqa: TC003  # an annotation is resolved at runtime
import dataclasses
import functools
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, TypedDict

import pytest

from retrysafe.answers import AnswerCodec
from support.answers import Colour, Level, Line, Money, Order, codec_for, replayed
from support.exactness import same

if TYPE_CHECKING:
    from somewhere_else import Unheard


class Row(TypedDict):
    money: Money


Cents = NewType("Cents", Money)


def direct() -> Money:
    raise NotImplementedError


def optional(unheard: Unheard) -> Money | None:
    raise NotImplementedError


def in_a_list() -> list[dict[str, tuple[Money, ...]]]:
    raise NotImplementedError


def in_a_typed_dict() -> Row:
    raise NotImplementedError


def by_new_type() -> Cents:
    raise NotImplementedError


def annotated() -> Annotated[Money | int, "doc"]:
    raise NotImplementedError


def through_fields() -> Order:
    raise NotImplementedError


def quoted() -> list["Money"]:  # noqa: UP037  # a quoted name inside is meant
    raise NotImplementedError


async def awaited() -> Money:
    raise NotImplementedError


class Shop:
    def method(self) -> Money:
        raise NotImplementedError

    @classmethod
    def of_class(cls) -> Money:
        raise NotImplementedError

    @staticmethod
    def static() -> Money:
        raise NotImplementedError

    def __call__(self) -> Money:
        raise NotImplementedError


@functools.wraps(direct)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError


@pytest.mark.parametrize(
    "function",
    [
        direct,
        optional,
        in_a_list,
        in_a_typed_dict,
        by_new_type,
        annotated,
        through_fields,
        quoted,
        awaited,
        Shop().method,
        Shop.method,
        Shop.of_class,
        Shop.static,
        Shop(),
        wrapped,
        functools.partial(direct),
        Money,
    ],
    ids=lambda function: getattr(function, "__qualname__", type(function).__name__),
)
def test_a_return_annotation_names_a_class_in_any_form(function):
    assert same(replayed(Money(Decimal(1)), AnswerCodec(function)), Money(Decimal(1)))


def test_a_callables_annotation_and_an_alias_do_no_harm():
    def function() -> collections.abc.Callable[[Money], Line] | Cents:
        raise NotImplementedError

    assert replayed(Line("a", Money(Decimal(1))), AnswerCodec(function)) == Line("a", Money(Decimal(1)))


def test_a_name_that_the_function_closes_over_and_that_is_not_there_yet_counts_as_none():
    def function() -> Coming:
        return Coming()

    assert replayed(Money(Decimal(1)), AnswerCodec(function)) == {"amount": Decimal(1), "currency": "EUR"}

    class Coming:
        pass


def test_a_literal_names_the_class_of_its_members():
    def function() -> Literal[Colour.RED]:
        raise NotImplementedError

    assert replayed(Colour.RED, AnswerCodec(function)) is Colour.RED


def test_classes_defined_inside_a_function_are_found_where_the_function_uses_them():
    @dataclasses.dataclass
    class Leaf:
        price: Decimal

    @dataclasses.dataclass
    class Tree:
        leaf: Leaf
        children: list[Tree]

    def function() -> Tree:
        return Tree(Leaf(Decimal(1)), [Tree(Leaf(Decimal(2)), [])])

    assert same(replayed(function(), AnswerCodec(function)), function())


def test_a_field_named_like_its_type_is_resolved():
    @dataclasses.dataclass
    class Paint:
        Colour: Colour = None  # type: ignore[assignment]

    assert replayed(Paint(Colour.RED), codec_for(Paint)).Colour is Colour.RED


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement came with Python 3.12")
def test_a_type_alias_is_looked_through_even_where_it_names_itself():
    space = {"Money": Money, "__name__": __name__}
    exec("type Tree = Money | list[Tree]", space)  # noqa: S102  # a syntax error in Python 3.11

    assert same(replayed([[Money(Decimal(1))]], codec_for(space["Tree"])), [[Money(Decimal(1))]])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement came with Python 3.12")
def test_a_type_alias_that_cannot_be_resolved_counts_as_none():
    space: dict[str, Any] = {"__name__": __name__}
    exec("type Broken = Unheard", space)  # noqa: S102  # a syntax error in Python 3.11

    assert replayed([Level.LOW], codec_for(space["Broken"])) == [1]
