"""Random payloads under many expressions: Powertools and retrysafe make the same key and payload hash, or both refuse.

What docs/powertools.md names as different is left out: tuples, and dataclasses and models that an expression has to
look into below a dict; keys of `Decimal(0)`; bytes and sets.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import pathlib
import uuid
from decimal import Decimal
from typing import Any

import pytest
from aws_lambda_powertools.utilities.idempotency import BasePersistenceLayer, IdempotencyConfig
from aws_lambda_powertools.utilities.idempotency.base import _prepare_data
from hypothesis import given, settings
from hypothesis import strategies as st

from retrysafe.exceptions import IdempotencyKeyError
from retrysafe.keys import PayloadKeys


class Colour(enum.Enum):
    RED = "red"
    NOTHING = None


class Level(enum.IntEnum):
    HIGH = 3


@dataclasses.dataclass
class Line:
    sku: Any
    price: Any


@dataclasses.dataclass
class Order:
    id: Any
    lines: list[Line]
    a: Any = None


class TheirLayer(BasePersistenceLayer):
    """No more than what makes keys."""

    _get_record = _put_record = _update_record = _delete_record = None  # type: ignore[assignment]


EXPRESSIONS = """
id | a.id | a.b.id | a | @ | * | a.* | *.id | [*] | [0] | [-1] | [] | [::-1] | body | a[*].b | a[].b[]
lines[0] | lines[*].sku | lines[].price | lines[?sku=='a'] | lines[?price>`1`].sku | lines[?sku].price
[id, a] | [id, a.b, missing] | {k: id, n: missing} | {k: a.id} | id || a | a && b | !a | (a||b).id | [?@] | @.id
a == b | id == `1` | `5` | 'text' | `null` | to_string(a) | to_string(@) | [to_string(id), a] | type(a) | type(@)
length(a) | length(@) | keys(a) | keys(@) | values(a) | to_number(id) | join(',', a) | sort(a) | sort_by(lines,&sku)
max_by(lines,&price) | map(&id, a) | not_null(id,a) | merge(a,b) | contains(a,'x') | contains(id,'a') | abs(id) | sum(a)
to_array(id) | reverse(a) | starts_with(id,'o') | powertools_json(body) | powertools_json(body).id
""".replace("\n", " | ").split(" | ")

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=5),
    st.sampled_from(["a", "x", "o1", json.dumps({"id": 5}), 1e16, -0.0, 2**53 + 1, "\ud83d", "\ud83d\udc4d"]),
    st.decimals().filter(lambda value: value.is_nan() or value != 0),
    st.sampled_from([Decimal("1E+5"), Decimal("1.10"), Decimal("-1E-9"), Decimal("NaN"), Decimal("-Infinity")]),
    st.datetimes(timezones=st.sampled_from([None, dt.UTC])),
    st.dates(),
    st.times(),
    st.uuids(),
    st.sampled_from([Colour.RED, Colour.NOTHING, Level.HIGH, pathlib.PurePosixPath("/a"), uuid.UUID(int=7)]),
)
NAMES = st.sampled_from(["id", "a", "b", "lines", "body", "sku", "price"])
VALUES = st.recursive(
    SCALARS, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(NAMES, inside, max_size=4), max_leaves=8
)
PAYLOADS = st.one_of(
    st.dictionaries(NAMES, VALUES, min_size=1, max_size=5),
    st.builds(Order, VALUES, st.lists(st.builds(Line, SCALARS, VALUES), max_size=2), VALUES),
    VALUES,
)


def by_powertools(payload: Any, options: dict[str, Any]) -> tuple[str | None, str] | None:
    layer = TheirLayer()
    layer.configure(IdempotencyConfig(**options), key_prefix="p")
    try:
        data = _prepare_data(payload)
        key = layer._get_hashed_idempotency_key(data)
        return key and key.removeprefix("p#"), layer._get_hashed_payload(data)
    except Exception:  # noqa: BLE001  # which it wraps
        return None


def by_us(payload: Any, options: dict[str, Any]) -> tuple[str | None, str] | None:
    keys = PayloadKeys(**options)
    try:
        return keys.key_hash(payload), keys.payload_hash(payload)
    except IdempotencyKeyError:
        return None


@pytest.mark.filterwarnings("ignore:No idempotency key value found")
@settings(max_examples=300, deadline=None)  # there is much to combine
@given(
    PAYLOADS,
    st.sampled_from(["", *filter(None, EXPRESSIONS)]),
    st.sampled_from(["", "a", "[id, a]", "@", "lines[].sku"]),
)
def test_random_payloads_have_the_peers_key_and_payload_hash(payload: Any, key: str, validated: str) -> None:
    options = {"event_key_jmespath": key.strip(), "payload_validation_jmespath": validated}
    assert by_us(payload, options) == by_powertools(payload, options)
