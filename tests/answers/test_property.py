"""Answers made at random of all supported types: they come back the same, and `data` is for peers to read."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import enum
import json
import pathlib
from decimal import Decimal
from typing import Any, NamedTuple

import pydantic
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from retrysafe.answers import AnswerCodec
from retrysafe.exceptions import IdempotencyPersistenceConsistencyError
from support.exactness import same

# Big values are many small decisions to Hypothesis; what counts here is the number of types that meet.
settings.register_profile(
    "answers",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
answers_at_random = settings(settings.get_profile("answers"), max_examples=300)


class Colour(enum.Enum):
    RED = "red"
    MIXED = (1, 2)
    NOT_A_NUMBER = float("nan")


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Shape(enum.StrEnum):
    ROUND = "round"
    SQUARE = "square"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: Any
    y: Any = 0


@dataclasses.dataclass(frozen=True)
class Coin:
    face: Any
    worth: Any = 1


@dataclasses.dataclass(slots=True)
class Parcel:
    inside: Any
    note: Any = dataclasses.field(init=False, default=None)


class Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    anything: Any = pydantic.Field(alias="Anything")
    when: dt.datetime
    price: Decimal = Decimal("1.50")
    _seen: int = pydantic.PrivateAttr(default=0)


def answer() -> list[Colour | Level | Shape | Right | Point | Coin | Parcel | Order]:
    raise NotImplementedError


CODEC = AnswerCodec(answer)

texts = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=5),
    st.sampled_from(["\ud83d\udc4d", "\U0001f44d", "\ud83d", "a\udc4d\ud83d\udc4db", "\u2028", "*", "\\ud83d"]),
)
zones = (
    st.none()
    | st.timezones()
    | st.builds(
        dt.timezone,
        st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)),
        st.sampled_from(["UTC", "EST", "Ort"]),
    )
)
moments = st.one_of(st.datetimes(timezones=zones, allow_imaginary=True), st.times(timezones=zones)).flatmap(
    lambda moment: st.sampled_from([moment, moment.replace(fold=1)])
)
enums = st.sampled_from([*Colour, *Level, *Shape, *Right, Right.READ | Right.WRITE, Right(0)])
hashable_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([700, 5000]).map(lambda digits: -(10**digits)),
    st.floats(),
    texts,
    st.binary(max_size=5),
    st.decimals().filter(lambda number: not number.is_snan()),
    st.uuids(),
    st.dates(),
    moments,
    st.timedeltas(),
    enums,
    st.builds(pathlib.PurePosixPath, st.text("ab/.", max_size=5)),
    st.builds(pathlib.PureWindowsPath, st.text("ab\\:.", max_size=5)).filter(
        lambda path: pathlib.PureWindowsPath(str(path)) == path
    ),
    st.builds(pathlib.Path, st.text("ab/.", max_size=5)),
)
hashables = st.recursive(
    hashable_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Point, inner, inner),
        st.builds(Coin, inner, inner),
    ),
    max_leaves=4,
)


def parcel(inside: Any, note: Any) -> Parcel:
    made = Parcel(inside)
    made.note = note
    return made


def order(anything: Any, when: dt.datetime, price: Decimal | None, seen: int, extra: dict[str, Any]) -> Order:
    given_price = {} if price is None else {"price": price}
    made = Order(Anything=anything, when=when, **given_price, **extra)
    made._seen = seen
    return made


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(texts, inner, max_size=4),
        st.dictionaries(hashables, inner, max_size=3),
        st.sets(hashables, max_size=3),
        st.builds(Point, inner, inner),
        st.builds(Coin, inner, inner),
        st.builds(parcel, inner, inner),
        st.builds(
            order,
            inner,
            st.datetimes(timezones=st.none() | st.just(dt.UTC)),
            st.none() | st.decimals(allow_nan=False, allow_infinity=False),
            st.integers(),
            st.dictionaries(st.sampled_from(["one", "two"]), inner, max_size=2),
        ),
    )


values = st.recursive(
    hashables | st.binary(max_size=5).map(bytearray) | st.just(Decimal("sNaN")), containers, max_leaves=12
)


def no_constant(name: str) -> None:
    pytest.fail(f"{name} is no JSON")


@answers_at_random
@given(values)
def test_an_answer_comes_back_equal_and_of_the_same_types_at_every_depth(value):
    stored = CODEC.encode(value)

    assert same(CODEC.decode(stored.data, stored.types), value), stored


@answers_at_random
@given(values)
def test_both_texts_are_strict_json_in_ascii(value):
    stored = CODEC.encode(value)

    json.loads(stored.data, parse_constant=no_constant)
    json.loads(stored.types or "null", parse_constant=no_constant)
    assert (stored.data + stored.types).isascii()


@answers_at_random
@given(values)
def test_what_no_annotation_names_is_stored_in_the_same_plain_form(value):
    unnamed = AnswerCodec().encode(value)

    assert unnamed.data == CODEC.encode(value).data
    AnswerCodec().decode(unnamed.data, unnamed.types)


# What Powertools for Python encodes by itself, in the way measured there.
peer_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.decimals(allow_nan=False),
    st.sampled_from([*Level, *Shape]),
)
peer_values = st.recursive(
    peer_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.builds(Point, inner, inner),
        st.dictionaries(texts, inner, max_size=4),
        st.dictionaries(st.integers() | st.floats(allow_nan=False, allow_infinity=False), inner, max_size=4),
        st.dictionaries(st.sampled_from([None]), inner),
        st.builds(Coin, inner, inner),
    ),
    max_leaves=12,
)


def as_the_peer_does(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    return dataclasses.asdict(value)


def without_loss(pairs: list[tuple[str, Any]]) -> None:
    # Where two keys come out as one text, the peer's object loses one of them; ours is a list of pairs.
    assume(len(dict(pairs)) == len(pairs))


@answers_at_random
@given(peer_values)
def test_what_the_peer_can_encode_is_stored_as_the_peer_stores_it_byte_for_byte(value):
    expected = json.dumps(value, sort_keys=True, default=as_the_peer_does)
    json.loads(expected, object_pairs_hook=without_loss)

    assert CODEC.encode(value).data == expected
    assert AnswerCodec().encode(value).data == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@answers_at_random
@given(json_values)
def test_plain_json_needs_no_types_unless_json_would_join_two_characters(value):
    stored = CODEC.encode(value)

    if same(json.loads(json.dumps(value)), value):
        assert stored.types == ""
    assert same(CODEC.decode(stored.data, stored.types), value)


hostile_marks = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | texts
    | st.sampled_from(
        [
            "Decimal",
            "datetime",
            "list",
            "dict",
            "pairs",
            "set",
            "via",
            "instead",
            "model",
            "Order",
            "Coin",
            "0",
            "*",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["0", "a", "set"]), inner)
        | st.tuples(
            st.sampled_from(["list", "dict", "tuple", "via", "dataclass", "enum", "model", "namedtuple", "datetime"]),
            st.sampled_from(["Coin", "Order", "Point", "Colour"]) | inner,
            inner,
        ).map(list)
    ),
    max_leaves=8,
)


@answers_at_random
@given(json_values, hostile_marks)
def test_types_that_do_not_fit_are_refused_with_one_error_or_read_but_never_break_otherwise(value, mark):
    with contextlib.suppress(IdempotencyPersistenceConsistencyError):
        CODEC.decode(json.dumps(value), json.dumps({"v": 1, "t": mark}))
