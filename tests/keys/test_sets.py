"""Sets in models as payloads: the key of the same payload is the same in every process."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import datetime as dt
import enum
import os
import subprocess
import sys
import uuid
from decimal import Decimal
from typing import Annotated, Any

import pydantic
import pytest

from retrysafe._keys.forms import json_form, whole
from retrysafe.keys import PayloadKeys

WORDS = frozenset({"a", "b", "c", "d", "e", "f", "g"})
SORTED = sorted(WORDS)
BACKWARDS = SORTED[::-1]


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Tag(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)

    name: str
    words: frozenset[str] = WORDS


@dataclasses.dataclass
class Box:
    words: set[str]


@pydantic.dataclasses.dataclass
class OwnBox:
    words: set[str]

    @pydantic.field_serializer("words")
    def backwards(self, words: set[str]) -> list[str]:
        return sorted(words, reverse=True)


class Names(pydantic.RootModel[set[str]]):
    pass


class OwnNames(pydantic.RootModel[set[str]]):
    @pydantic.model_serializer
    def backwards(self) -> list[str]:
        return sorted(self.root, reverse=True)


class Tree(pydantic.BaseModel):
    words: set[str] = set(WORDS)
    children: list[Tree] = []


class Whole(pydantic.BaseModel):
    words: set[str] = set(WORDS)

    @pydantic.model_serializer
    def backwards(self) -> dict[str, Any]:
        return {"words": sorted(self.words, reverse=True)}


class Swapped(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True)

    words: set[str] = pydantic.Field(alias="others")
    others: list[str] = pydantic.Field(alias="words")


class Computed(pydantic.BaseModel):
    word: str = "a"

    @pydantic.computed_field(alias="Words")
    @property
    def words(self) -> frozenset[str]:
        return WORDS


class ComputedByAlias(Computed):
    model_config = pydantic.ConfigDict(serialize_by_alias=True)


class Extra(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")


def model(kind: Any, value: Any, **more: Any) -> Any:
    return pydantic.create_model("Model", field=(kind, ...), **more)(field=value)


ORDERED = [
    (model(set[str], WORDS), {"field": SORTED}),
    (model(frozenset[str] | None, WORDS), {"field": SORTED}),
    (model(Any, WORDS), {"field": SORTED}),
    (model(set[Colour], set(Colour)), {"field": ["blue", "green", "red"]}),
    (
        model(set[dt.date], {dt.date(2030, 1, day) for day in range(1, 5)}),
        {"field": [f"2030-01-0{day}" for day in range(1, 5)]},
    ),
    (model(dict[str, list[set[str]]], {"a": [WORDS]}), {"field": {"a": [SORTED]}}),
    (model(tuple[set[str], ...], (WORDS,)), {"field": [SORTED]}),
    (model(collections.deque[set[str]], [WORDS]), {"field": [SORTED]}),
    (model(collections.abc.Sequence[set[str]], [WORDS]), {"field": [SORTED]}),
    (model(collections.defaultdict[str, set[str]], {"a": WORDS}), {"field": {"a": SORTED}}),
    (model(set[Tag], {Tag(name="b"), Tag(name="a")}), {"field": [{"name": n, "words": SORTED} for n in "ab"]}),
    (model(Box, Box(set(WORDS))), {"field": {"words": SORTED}}),
    (model(set[Any], {None, "b", 1}), {"field": ["b", 1, None]}),
    (Names(set(WORDS)), SORTED),
    (model(Names, Names(set(WORDS))), {"field": SORTED}),
    (Tree(children=[Tree()]), {"words": SORTED, "children": [{"words": SORTED, "children": []}]}),
    (Swapped(others=set(WORDS), words=BACKWARDS), {"others": SORTED, "words": BACKWARDS}),
    (Extra(words=set(WORDS)), {"words": SORTED}),
    (Computed(), {"word": "a", "words": SORTED}),
    (ComputedByAlias(), {"word": "a", "Words": SORTED}),
]
LEFT = [
    model(set[int], {100, 5, 8, 0}),
    model(set[uuid.UUID], {uuid.uuid5(uuid.NAMESPACE_DNS, word) for word in WORDS}),
    model(set[Decimal], {Decimal("1.5"), Decimal(-7)}),
    model(set[dt.timedelta], {dt.timedelta(days) for days in range(4)}),
    model(list[str], BACKWARDS),
    model(Annotated[set[str], pydantic.PlainSerializer(lambda words: sorted(words, reverse=True))], WORDS),
    model(list[Annotated[set[str], pydantic.PlainSerializer(lambda words: sorted(words, reverse=True))]], [WORDS]),
    model(Annotated[set[str], pydantic.PlainSerializer(len)], WORDS),
    model(OwnBox, OwnBox(set(WORDS))),
    OwnNames(set(WORDS)),
    Whole(),
]


@pytest.mark.parametrize("name", ["metadata", "default", "expected", "type", "config", "serialization"])
def test_a_field_may_be_called_what_a_schema_calls_its_own(name):
    fields: Any = {name: (set[str], ...)}
    inner = pydantic.create_model("Inner", **fields)(**{name: WORDS})

    assert whole(inner) == {name: SORTED}
    assert whole(model(type(inner), inner)) == {"field": {name: SORTED}}


@pytest.mark.parametrize(("payload", "form"), ORDERED)
def test_the_items_of_a_set_in_a_model_come_in_an_order_of_their_own(payload, form):
    assert whole(payload) == json_form(payload) == form


@pytest.mark.parametrize("payload", LEFT)
def test_numbers_lists_and_what_a_serializer_of_the_users_makes_stay_as_the_peers_have_them(payload):
    assert json_form(payload) == payload.model_dump(mode="json")


def test_a_set_is_found_behind_keys_that_json_lacks():
    assert json_form(model(dict[Any, Any], {1: {(1, 2): WORDS}})) == {"field": {"1": {"1,2": SORTED}}}


def test_what_only_looks_like_a_model_keeps_its_dump():
    class Lookalike:
        def model_dump(self, mode: str) -> dict[str, Any]:
            return {mode: BACKWARDS}

    assert whole(Lookalike()) == {"json": BACKWARDS}


def test_a_schema_written_in_an_unknown_way_leaves_the_dump_as_it_is(monkeypatch):
    payload = pydantic.create_model("Model", words=(set[str], ...))(words=WORDS)
    monkeypatch.setattr(type(payload), "__pydantic_core_schema__", {"type": "set"})

    assert whole(payload) == payload.model_dump(mode="json")


KEYS_OF_A_MODEL = """
import pydantic
from retrysafe.keys import PayloadKeys

class Order(pydantic.BaseModel):
    tags: set[str]

order = Order(tags={"a", "b", "c", "d", "e", "f", "g"})
keys = PayloadKeys(event_key_jmespath="order.tags", payload_validation_jmespath="order")
print(PayloadKeys().key_hash(order), keys.key_hash({"order": order}), keys.payload_hash({"order": order}))
"""


def test_a_key_of_a_model_with_a_set_is_the_same_in_processes_that_hash_otherwise():
    printed = {
        subprocess.run(
            [sys.executable, "-c", KEYS_OF_A_MODEL],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(printed) == 1
    assert PayloadKeys().key_hash({"tags": SORTED}) in printed.pop()
