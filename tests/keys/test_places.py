"""A payload that cannot be hashed is refused by naming the place and the type, and never a value."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import traceback
from collections import deque
from typing import Any

import pydantic
import pytest

from retrysafe.exceptions import IdempotencyKeyError
from retrysafe.keys import PayloadKeys

PRIVATE = "4111-1111"


@dataclasses.dataclass
class Order:
    id: Any = None
    tags: Any = None


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    thing: Any = None


class Wrapped(enum.Enum):
    ORDER = Order(tags={PRIVATE})


class WithDict:
    def dict(self) -> Any:
        return {"tags": {PRIVATE}}


class Broken:
    def dict(self) -> Any:
        raise LookupError


def circle() -> Any:
    ring: dict[str, Any] = {"id": PRIVATE, "items": []}
    ring["items"].append({"back": ring})
    return ring


def circle_of_dataclasses() -> Any:
    parent = Order(PRIVATE)
    parent.tags = [Order(PRIVATE, parent)]
    return {"order": parent}


def nested(levels: int) -> Any:
    value: Any = PRIVATE
    for _ in range(levels):
        value = [value]
    return value


REFUSED: dict[str, tuple[Any, str]] = {
    "set": ({PRIVATE}, "payload: a set cannot be hashed"),
    "bytes": ({"a": PRIVATE.encode()}, 'payload["a"]: a bytes cannot be hashed'),
    "timedelta": ([dt.timedelta(1)], "payload[0]: a datetime.timedelta cannot be hashed"),
    "complex": ({"a": (1, 1j)}, 'payload["a"][1]: a complex cannot be hashed'),
    "object": ({"a": [{"b": object()}]}, 'payload["a"][0]["b"]: an object cannot be hashed'),
    "deque": ({3: deque([PRIVATE])}, "payload[3]: a collections.deque cannot be hashed"),
    "function": ({None: print}, "payload[null]: a builtin_function_or_method cannot be hashed"),
    "class": (Order, "payload: a class cannot be hashed"),
    "class of models": ({"a": Model}, 'payload["a"]: a class cannot be hashed'),
    "in a dataclass": (
        {"id": PRIVATE, "items": [PRIVATE, 2.5, 3, Order(tags={PRIVATE})]},
        'payload["items"][3].tags: a set cannot be hashed',
    ),
    "in a dataclass in a dataclass": (
        [Order(PRIVATE, Order({PRIVATE}))],
        "payload[0].tags.id: a set cannot be hashed",
    ),
    "in an enum": ({"a": Wrapped.ORDER}, 'payload["a"].tags: a set cannot be hashed'),
    "in what dict() gives": (WithDict(), 'payload["tags"]: a set cannot be hashed'),
    "tuple as a key": ({"a": {(PRIVATE,): 1}}, 'payload["a"]: a dict with a tuple as a key cannot be hashed'),
    "keys without an order": (
        {"a": [{PRIVATE: 1, 4111: 2}]},
        'payload["a"][0]: a dict with keys of types int and str cannot be sorted, so it cannot be hashed',
    ),
    "circle": (circle(), 'payload["items"][0]["back"]: a circular reference cannot be hashed'),
    "circle of dataclasses": (
        circle_of_dataclasses(),
        'payload["order"].tags[0].tags: a circular reference cannot be hashed',
    ),
    "depth": ({"a": nested(100_000)}, "payload: data nested so deeply cannot be hashed"),
    "digits": ({"a": 10**5000}, 'payload["a"]: an int with more digits than Python writes cannot be hashed'),
    "digits of a key": (
        {10**5000: 1},
        "payload: an int with more digits than Python writes cannot be hashed",
    ),
    "long key": ({100 * "k": {1}}, f'payload["{39 * "k"}...]: a set cannot be hashed'),
}


@pytest.mark.parametrize(("payload", "message"), REFUSED.values(), ids=REFUSED)
def test_the_refusal_names_place_and_type_and_shows_no_value(payload: Any, message: str) -> None:
    with pytest.raises(IdempotencyKeyError) as refused:
        PayloadKeys().key_hash(payload)
    assert str(refused.value) == f"{message} into an idempotency key"
    assert PRIVATE not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("name", ["depth", "circle"])
def test_a_payload_without_an_end_does_not_fill_the_log_with_the_way_down(name: str) -> None:
    with pytest.raises(IdempotencyKeyError) as refused:
        PayloadKeys().key_hash(REFUSED[name][0])
    assert "RecursionError" not in "".join(traceback.format_exception(refused.value))


def test_data_selected_by_an_expression_is_called_so() -> None:
    keys = PayloadKeys(event_key_jmespath="order", payload_validation_jmespath="order.tags")
    payload = {"order": Order(1, [{2}])}
    with pytest.raises(IdempotencyKeyError) as refused:
        keys.key_hash(payload)
    assert str(refused.value) == (
        "selected.tags[0]: a set cannot be hashed into an idempotency key (selected by event_key_jmespath)"
    )
    with pytest.raises(IdempotencyKeyError) as refused:
        keys.payload_hash(payload)
    assert str(refused.value) == (
        "selected[0]: a set cannot be hashed into a payload hash (selected by payload_validation_jmespath)"
    )


def test_data_that_came_as_a_key_is_called_so() -> None:
    with pytest.raises(IdempotencyKeyError, match=r"^key\[1\]: a set cannot be hashed into an idempotency key$"):
        PayloadKeys().hash_of(("a", {1}))


def test_what_fails_while_it_is_read_is_named_and_its_error_is_kept() -> None:
    with pytest.raises(IdempotencyKeyError) as refused:
        PayloadKeys().key_hash(Broken())
    assert str(refused.value) == (f"payload: a {__name__}.Broken cannot be read (LookupError), so it cannot be hashed")
    assert isinstance(refused.value.__cause__, LookupError)
    with pytest.raises(IdempotencyKeyError) as refused:
        PayloadKeys().key_hash({"a": Model(thing=object())})
    assert str(refused.value) == (
        f'payload["a"]: a {__name__}.Model cannot be read (PydanticSerializationError), so it cannot be '
        "hashed into an idempotency key"
    )


def test_what_can_be_read_the_second_time_only_is_refused_all_the_same() -> None:
    class Moody(pydantic.BaseModel):
        @pydantic.model_serializer
        def written(self) -> Any:
            failures.append(1)
            if len(failures) == 1:
                raise OSError
            return {}

    failures: list[int] = []
    with pytest.raises(IdempotencyKeyError) as refused:
        PayloadKeys().key_hash({"a": Moody()})
    assert "payload: a dict that leads to" in str(refused.value)


def test_a_payload_refused_once_leaves_no_trace_in_the_next_one() -> None:
    keys = PayloadKeys()
    payload: dict[str, Any] = {"a": {1}}
    for _ in range(3):
        with pytest.raises(IdempotencyKeyError):
            keys.key_hash(payload)
    payload["a"] = 1
    assert keys.key_hash(payload) == keys.key_hash({"a": 1})
