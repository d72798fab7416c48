"""Models within models as answers: what they cost to store, and those that lead back to themselves."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pydantic
import pytest

from retrysafe.answers import AnswerCodec, UnstorableAnswerError
from support.exactness import same

DEPTH = 16
HOUR = dt.timedelta(hours=1)


class Node(pydantic.BaseModel):
    name: str = ""
    children: list[Node] = []
    anything: Any = None
    _parent: Node | None = pydantic.PrivateAttr(default=None)
    _lock: Any = pydantic.PrivateAttr(default_factory=threading.Lock)

    @pydantic.field_serializer("name")
    def counted(self, name: str) -> str:
        dumps.append(name)
        return name


CODEC = AnswerCodec(return_type=Node)
dumps: list[str] = []


@pytest.fixture(autouse=True)
def _counts_from_zero():
    dumps.clear()


def in_a_private_attribute(inner: Node) -> Node:
    node = Node(name="outer")
    node._parent = inner
    return node


@pytest.mark.parametrize(
    "wrap",
    [
        lambda inner: Node(children=[inner]),
        lambda inner: Node(anything=inner),
        # pydantic writes these moments in another form than we do, so that the two are compared.
        lambda inner: Node(anything=[dt.datetime(2030, 1, 1, tzinfo=dt.UTC), inner]),
        lambda inner: Node(anything={HOUR: inner, 3 * HOUR: ()}),
        in_a_private_attribute,
    ],
    ids=["field", "any field", "beside a moment", "keyed by a duration", "private"],
)
def test_each_level_of_models_adds_to_the_cost_of_storing_and_does_not_multiply_it(wrap):
    answer = Node()
    for _ in range(DEPTH):
        answer = wrap(answer)

    stored = CODEC.encode(answer)

    assert len(dumps) <= (DEPTH + 1) * (DEPTH + 2), "at most a dump of all that is inside, at each level, twice"
    back = CODEC.decode(stored.data, stored.types)
    assert same(AnswerCodec(return_type=Node).encode(back), stored)


def test_a_model_whose_children_know_their_parent_contains_itself_and_is_refused():
    parent = Node(name="parent", children=[Node(name="one"), Node(name="two")])
    for child in parent.children:
        child._parent = parent

    with pytest.raises(UnstorableAnswerError, match="contains itself"):
        CODEC.encode(parent)


def test_a_private_attribute_that_is_too_deep_is_refused_and_not_replaced_by_its_default():
    answer = Node()
    for _ in range(120):
        answer = in_a_private_attribute(answer)

    with pytest.raises(UnstorableAnswerError, match="more than 100 levels"):
        CODEC.encode(answer)


def test_a_class_within_a_private_attribute_that_is_left_out_is_not_named():
    class Unnamed(pydantic.BaseModel):
        lock: Any

    node = Node()
    node._lock = Unnamed(lock=threading.Lock())

    assert CODEC.encode(node).plain == ()
