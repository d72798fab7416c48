"""Annotations that name what is defined later, or for type checkers only: nothing needs them before an answer does.

Python 3.14 evaluates annotations when they are asked for; earlier ones keep them as text by a future import.
"""

from __future__ import annotations

import importlib
import sys
from textwrap import dedent

import pytest

EARLIER = "" if sys.version_info >= (3, 14) else "from __future__ import annotations\n"

IMPORTS = """
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent, idempotent_batch, idempotent_function

if TYPE_CHECKING:
    from somewhere import Never

store, runs = MemoryPersistenceLayer(), []
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Imports a program's text as a module."""
    monkeypatch.syspath_prepend(tmp_path)

    def _import(text):
        (tmp_path / "late_annotations.py").write_text(EARLIER + IMPORTS + dedent(text))
        return importlib.import_module("late_annotations")

    yield _import
    sys.modules.pop("late_annotations", None)


def test_arguments_may_be_of_types_that_are_defined_later_or_never(program):
    made = program("""
    @idempotent_function(persistence_store=store, data_keyword_argument="order")
    def charge(order: Order, by: Never | None = None, *others: list[Never]) -> int:
        runs.append(order)
        return len(runs)

    class Order: ...
    """)
    assert [made.charge({"id": 1}), made.charge(order={"id": 1}), made.charge({"id": 2})] == [1, 1, 2]


def test_so_may_those_of_a_handler_and_of_a_hook(program):
    made = program("""
    def hook(answer: Never, record: Never) -> Never:
        return answer + 10

    @idempotent(persistence_store=store, config=IdempotencyConfig(response_hook=hook))
    def handler(event: Never, context: Later) -> Never:
        runs.append(event)
        return len(runs)
    """)
    assert [made.handler({"id": 1}, None), made.handler(event={"id": 1}, context=None)] == [1, 11]


def test_so_may_the_item_of_a_batch(program):
    made = program("""
    @idempotent_batch(persistence_store=store)
    def charge(order: list[Never], by: Never = None) -> Never:
        runs.append(order)
        return len(runs)
    """)
    assert [result.answer for result in made.charge([[1], [2], [1]])] == [1, 2, 1]


def test_an_answer_is_of_its_class_again_though_that_came_later_and_other_names_never(program):
    made = program("""
    @idempotent_function(persistence_store=store, data_keyword_argument="order")
    def charge(order: Never) -> list[Receipt] | None:
        runs.append(order)
        return [Receipt(order, Line(3))]

    @dataclass
    class Receipt:
        order: int
        line: Line
        by: Never | None = None

    @dataclass
    class Line:
        amount: int
    """)
    first, again = made.charge(1), made.charge(1)
    assert first == again == [made.Receipt(1, made.Line(3))]
    assert first is not again
    assert made.runs == [1]


def test_so_it_is_for_classes_of_a_function_around_it(program):
    made = program("""
    def shop():
        @idempotent_function(persistence_store=store, data_keyword_argument="order")
        def charge(order: Never) -> Receipt:
            runs.append(order)
            return Receipt(order)

        @dataclass
        class Receipt:
            order: int

        return charge, Receipt

    charge, receipt = shop()
    """)
    assert made.charge(1) == made.charge(1) == made.receipt(1)
    assert made.runs == [1]
