"""What a function over a batch shows of itself to `help()`, editors and frameworks is how it can be called."""

from __future__ import annotations

import inspect
import pydoc
import typing
from collections.abc import Iterable

import pytest

from retrysafe import BatchResult, MemoryPersistenceLayer, idempotent_batch, idempotent_function

store = MemoryPersistenceLayer()


def charge(order: int, note: str = "", *, items: int = 0) -> str:
    """Charge one order."""
    return f"{order}{note}{items}"


async def charge_async(order: int, note: str = "", *, items: int = 0) -> str:
    """Charge one order."""
    return f"{order}{note}{items}"


class Shop:
    def each(self, *orders):
        return orders


for written in (charge, charge_async):
    # As of a module without the `__future__` import.
    written.__annotations__ = {"order": int, "note": str, "items": int, "return": str}


@pytest.mark.parametrize("function", [charge, charge_async])
def test_a_batch_function_shows_the_items_that_it_takes_and_the_result_that_it_gives(function):
    over_many = idempotent_batch(function, persistence_store=store, key_prefix="shown")
    signature = inspect.signature(over_many)
    items, note, _ = signature.parameters.values()
    assert (items.name, items.kind, items.annotation) == ("items_", inspect.Parameter.POSITIONAL_ONLY, Iterable[int])
    assert (note.name, note.default) == ("note", "")
    assert signature.return_annotation is BatchResult
    assert typing.get_type_hints(over_many) == {
        "items_": Iterable[int],
        "note": str,
        "items": int,
        "return": BatchResult,
    }
    assert inspect.iscoroutinefunction(over_many) == inspect.iscoroutinefunction(function)
    assert "Charge one order." in pydoc.render_doc(over_many)
    assert inspect.signature(function).return_annotation is str, "the function itself is left as it was"
    signature.bind([1, 2], "x", items=5)


def test_annotations_that_cannot_be_known_yet_are_left_out():
    def ship(order: NotYet, later: NotYet = None): ...  # type: ignore[name-defined]  # noqa: F821  # that is the test

    over_many = idempotent_batch(ship, persistence_store=store, key_prefix="shown")
    assert inspect.signature(over_many).parameters["items"].annotation is Iterable


def test_what_a_function_takes_behind_its_item_stays():
    over_many = idempotent_batch(Shop().each, persistence_store=store, key_prefix="shown")
    assert str(inspect.signature(over_many)).startswith("(items: collections.abc.Iterable, /, *orders)")
    assert idempotent_batch(max, persistence_store=store, key_prefix="of C")([[1, 2]])[0].answer == 2


def test_a_batch_can_be_the_payload_of_an_idempotent_function():
    ran = []
    over_many = idempotent_batch(ran.append, persistence_store=store, key_prefix="inner")
    once = idempotent_function(
        over_many, persistence_store=MemoryPersistenceLayer(), key_prefix="outer", data_keyword_argument="items"
    )
    once([1])
    assert ran == [1]
