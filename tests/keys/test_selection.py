"""What a JMESPath expression selects for the key: also out of dataclasses, and without touching the rest."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import traceback
from collections import OrderedDict, UserDict, deque
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple

import jmespath
import pydantic
import pytest
from jmespath.functions import Functions, signature

from retrysafe.exceptions import IdempotencyConfigError, IdempotencyKeyError
from retrysafe.jmespath_functions import PowertoolsFunctions
from retrysafe.keys import PayloadKeys

PRIVATE = "4111-1111"


@dataclasses.dataclass
class Order:
    id: Any = None
    lines: Any = None


class Model(pydantic.BaseModel):
    id: int = 0
    child: Model | None = None


class Point(NamedTuple):
    x: Any
    y: Any


class Plain:
    id = 1


class Event:
    """As an event source class: a mapping by its methods, and a payload by its `raw_event`."""

    def __init__(self, raw_event: dict[str, Any]) -> None:
        self.raw_event = raw_event

    def get(self, name: str, default: Any = None) -> Any:
        return self.raw_event.get(name, default)


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def key_hash(expression: str, payload: Any, options: Any = None) -> str | None:
    return PayloadKeys(event_key_jmespath=expression, jmespath_options=options).key_hash(payload)


SELECTED: dict[str, tuple[str, Any, str | None]] = {
    "field": ("id", {"id": 1, "other": {1}}, "1"),
    "nothing": ("missing", {"id": 1}, None),
    "nothing in a number": ("id.x", {"id": 1}, None),
    "list of nothing": ("[a, b]", {}, None),
    "list with something": ("[a, b]", {"b": 1}, "[null, 1]"),
    "dict of nothing": ("{x: a}", {}, None),
    "dataclass payload": ("lines[0].id", Order(1, [Order(2)]), "2"),
    "model payload": ("child.id", Model(child=Model(id=3)), "3"),
    "event payload": ("id", Event({"id": 4}), "4"),
    "named tuple payload": ("[1]", Point(1, 2), "2"),
    "field of a nested dataclass": ("order.id", {"order": Order(1)}, "1"),
    "field of a nested model": ("order.child.id", {"order": Model(child=Model(id=5))}, "5"),
    "field of a nested dataclass among others": ("[order.id, t]", {"order": Order(1), "t": "x"}, '[1, "x"]'),
    "nested dataclass": ("order", {"order": Order(1, (2,))}, '{"id": 1, "lines": [2]}'),
    "nested dataclass of nothing": ("order", {"order": Order()}, '{"id": null, "lines": null}'),
    "fields of dataclasses in a list": ("o[*].id", {"o": [Order(1), Order(2)]}, "[1, 2]"),
    "fields of dataclasses in a flattened list": ("o[].id", {"o": [Order(1), [Order(2)]]}, "[1, 2]"),
    "dataclass found by a field": ("o[?id==`2`].lines | [0]", {"o": [Order(1), Order(2, 7)]}, "7"),
    "dataclass sorted by a field": ("sort_by(o, &id)[0].id", {"o": [Order(2), Order(1)]}, "1"),
    "all fields of a dataclass": ("order.*", {"order": Order(1, 2)}, "[1, 2]"),
    "index of a tuple": ("o[0]", {"o": (1, 2)}, "1"),
    "slice of a tuple": ("o[1:]", {"o": (1, 2)}, "[2]"),
    "each of a tuple": ("o[*].id", {"o": (Order(1),)}, "[1]"),
    "filtered tuple": ("o[?id==`2`].id", {"o": (Order(1), Order(2))}, "[2]"),
    "flattened tuple": ("o[]", {"o": (1, 2)}, "[1, 2]"),
    "joined tuple": ("join('-', o[*])", {"o": ("a", "b")}, '"a-b"'),
    "mapping of another class": ("o.id", {"o": UserDict(id=1)}, "1"),
    "mapping proxy": ("o.id", {"o": MappingProxyType({"id": 1})}, "1"),
    "event inside": ("event.id", {"event": Event({"id": 1})}, "1"),
    "Decimal as a number": ("o[?p > `1`].p", {"o": [{"p": Decimal("1.5")}]}, '["1.5"]'),
    "Decimal": ("p", {"p": Decimal("1.50")}, '"1.50"'),
    "nothing in a Decimal": ("p.x", {"p": Decimal("1.50")}, None),
    "built-in function": ("to_string(p)", {"p": 5}, '"5"'),
    "text of a dataclass in a dataclass": ("to_string(id)", Order(Order(1)), r'"{\"id\":1,\"lines\":null}"'),
    "fields' names of one": ("keys(id)", Order(Order(1)), '["id", "lines"]'),
    "number of such in a tuple": ("length(lines[0].lines)", Order(1, (Order(2, [Order(3)]),)), "1"),
    "text of such in a dict": ("to_string(lines)", Order(1, {"a": Order(2)}), r'"{\"a\":{\"id\":2,\"lines\":null}}"'),
}


@pytest.mark.parametrize(("expression", "payload", "text"), SELECTED.values(), ids=SELECTED)
def test_an_expression_selects(expression: str, payload: Any, text: str | None) -> None:
    assert key_hash(expression, payload) == (None if text is None else md5(text))


def test_a_function_sees_the_same_in_what_is_validated() -> None:
    keys = PayloadKeys(payload_validation_jmespath="to_string(id)")
    assert keys.payload_hash(Order(Order(1))) == md5(r'"{\"id\":1,\"lines\":null}"')


@pytest.mark.parametrize("expression", ["o.id", "[o.id, t]", "o[0]", "o[*].id", "o.*", "o[]", "o[1:]", "o[?id]"])
@pytest.mark.parametrize("value", [Plain(), {PRIVATE}, deque([PRIVATE]), PRIVATE.encode()], ids=type)
def test_looking_into_what_has_no_fields_is_refused(expression: str, value: Any) -> None:
    """Null, JMESPath's own answer, would give payloads one key that differ just there."""
    with pytest.raises(IdempotencyKeyError, match=r"^event_key_jmespath: JMESPath cannot look into a \S+$"):
        key_hash(expression, {"o": value, "t": 1})


class Untouchable(dict[str, Any]):
    """Stands for the megabytes that the key does not need: whoever looks into it fails."""

    def __init__(self) -> None:
        super().__init__(content=PRIVATE)

    def _touched(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("touched")

    __iter__ = __len__ = __getitem__ = __contains__ = __eq__ = __bool__ = __copy__ = __deepcopy__ = _touched
    keys = values = items = get = copy = __reduce_ex__ = _touched
    __hash__ = None  # type: ignore[assignment]  # a dict has none


LARGE = {
    "id": 1,
    "order": Order(2, Untouchable()),
    "lines": (Untouchable(), {"id": 3, "rest": Untouchable()}),
    "blob": Untouchable(),
}


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("id", "1"),
        ("order.id", "2"),
        ("lines[1].id", "3"),
        ("[id, order.id]", "[1, 2]"),
        ("to_string(id)", '"1"'),
    ],
)
def test_only_what_the_key_needs_of_a_large_payload_is_touched(expression: str, text: str) -> None:
    keys = PayloadKeys(event_key_jmespath=expression, payload_validation_jmespath=expression)
    assert keys.key_hash(LARGE) == md5(text)
    assert keys.payload_hash(LARGE) == md5(text)


@pytest.mark.parametrize("place", ["order", "lines", "blob"])
def test_a_key_of_the_whole_payload_touches_all_of_it(place: str) -> None:
    """So that the test above could fail."""
    with pytest.raises(IdempotencyKeyError, match="AssertionError"):
        PayloadKeys().key_hash({place: LARGE[place]})


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("expression", "text", "expected"),
    [
        ("powertools_json(b).x", '{"x": 1.0}', "1.0"),
        ("powertools_json(b)", '{"x": 1, "a": [null]}', '{"a": [null], "x": 1}'),
        ("powertools_json(b)", "NaN", "NaN"),
        ("powertools_base64(b)", base64_of("caf\u00e9".encode()), '"caf\\u00e9"'),
        ("powertools_base64(b)", "YW Jj\n", '"abc"'),
        ("powertools_base64_gzip(b)", base64_of(gzip.compress(b"abc", mtime=0)), '"abc"'),
        ("powertools_json(powertools_base64_gzip(b)).x", base64_of(gzip.compress(b'{"x": 2}', mtime=0)), "2"),
    ],
)
def test_the_built_in_functions_read_json_base64_and_gzip(expression: str, text: str, expected: str) -> None:
    assert key_hash(expression, {"b": text}) == md5(expected)


@pytest.mark.parametrize(
    ("expression", "text"),
    [("powertools_json(b)", "null"), ("powertools_base64(b)", ""), ("powertools_base64_gzip(b)", "")],
)
def test_text_that_holds_nothing_has_no_key(expression: str, text: str) -> None:
    assert key_hash(expression, {"b": text}) is None


NOT_JSON = "powertools_json() was given text that is not JSON"
NOT_BASE64 = "powertools_base64() was given text that is not base64 of UTF-8"
NOT_GZIP = "powertools_base64_gzip() was given text that is not base64 of gzip of UTF-8"


@pytest.mark.parametrize(
    ("expression", "value", "message"),
    [
        ("powertools_json(b)", PRIVATE, NOT_JSON),
        ("powertools_json(b)", "", NOT_JSON),
        ("powertools_json(b)", 100_000 * "[", NOT_JSON),
        ("powertools_json(b)", None, "powertools_json() takes string, not null"),
        ("powertools_json(b)", [PRIVATE], "powertools_json() takes string, not array"),
        ("powertools_json(b)", PRIVATE.encode(), "powertools_json() takes string, not a bytes"),
        ("powertools_base64(b)", PRIVATE, NOT_BASE64),
        ("powertools_base64(b)", "caf\u00e9", NOT_BASE64),
        ("powertools_base64(b)", base64_of(b"\xff"), NOT_BASE64),
        ("powertools_base64_gzip(b)", PRIVATE, NOT_GZIP),
        ("powertools_base64_gzip(b)", base64_of(b"abc"), NOT_GZIP),
        ("powertools_base64_gzip(b)", base64_of(gzip.compress(b"abc", mtime=0)[:-3]), NOT_GZIP),
        ("powertools_base64_gzip(b)", base64_of(gzip.compress(b"abc", mtime=0)[:10] + b"\xff\xff"), NOT_GZIP),
        ("powertools_base64_gzip(b)", base64_of(gzip.compress(b"\xff", mtime=0)), NOT_GZIP),
        ("join('-', b)", [PRIVATE, 1], "join() takes array-string, not int"),
        ("length(b)", (PRIVATE,), "length() takes string or array or object, not a tuple"),
        ("b[::0]", [PRIVATE], "failed with ValueError"),
        ("powertools_json(b, b)", PRIVATE, "failed with ArityError"),
    ],
)
def test_a_function_that_fails_is_told_without_its_arguments(expression: str, value: Any, message: str) -> None:
    with pytest.raises(IdempotencyKeyError) as refused:
        key_hash(expression, {"b": value})
    assert str(refused.value) == f"event_key_jmespath: {message}"
    assert PRIVATE not in "".join(traceback.format_exception(refused.value))
    keys = PayloadKeys(payload_validation_jmespath=expression)
    with pytest.raises(IdempotencyKeyError, match=r"^payload_validation_jmespath: "):
        keys.payload_hash({"b": value})


@pytest.mark.parametrize("value", [{"x", "y"}, frozenset(), object(), iter([])], ids=lambda value: type(value).__name__)
def test_what_has_another_text_in_each_process_is_not_made_a_string(value: Any) -> None:
    with pytest.raises(IdempotencyKeyError, match=r"to_string\(\) was given an? \w+, whose text is another one"):
        key_hash("to_string(b)", {"b": [value]})


@pytest.mark.parametrize("value", [b"x", 1j, range(3)], ids=repr)
def test_what_json_lacks_and_has_one_text_is_made_a_string_as_with_the_peers(value: Any) -> None:
    assert key_hash("to_string(b)", {"b": [value]}) == md5(json.dumps(json.dumps([str(value)])))


class OwnFunctions(Functions):
    @signature({"types": ["string"]})
    def _func_upper(self, text: str) -> str:
        return text.upper()

    @signature({"types": []})
    def _func_deep(self, value: Any) -> Any:
        return self._func_deep(value)

    @signature({"types": []})
    def _func_lookup(self, value: Any) -> Any:
        raise LookupError


class MoreFunctions(PowertoolsFunctions, OwnFunctions):
    pass


OWN = {"custom_functions": OwnFunctions()}


@pytest.mark.parametrize("options", [OWN, jmespath.Options(**OWN)], ids=["dict", "Options"])
def test_options_of_the_users_own_hold_instead_of_the_built_in_ones(options: Any) -> None:
    assert key_hash("upper(b)", {"b": "x"}, options) == md5('"X"')
    assert key_hash("length(b)", {"b": "xyz"}, options) == md5("3")
    with pytest.raises(IdempotencyConfigError, match="unknown functions: powertools_json"):
        key_hash("powertools_json(b)", {"b": "1"}, options)


def test_the_built_in_functions_can_be_added_to() -> None:
    options = {"custom_functions": MoreFunctions()}
    assert key_hash("upper(powertools_json(b))", {"b": '"x"'}, options) == md5('"X"')


def test_empty_options_are_none() -> None:
    assert key_hash("powertools_json(b)", {"b": "1"}, {}) == md5("1")


def test_other_options_reach_jmespath() -> None:
    made: list[OrderedDict[str, Any]] = []

    def make() -> OrderedDict[str, Any]:
        made.append(OrderedDict())
        return made[-1]

    assert key_hash("{x: b}", {"b": 1}, {"dict_cls": make}) == md5('{"x": 1}')
    assert made == [{"x": 1}]


@pytest.mark.parametrize(
    ("expression", "message"),
    [("lookup(b)", "failed with LookupError"), ("deep(b)", "the payload is nested too deeply")],
)
def test_a_function_of_the_users_own_that_fails_is_a_key_error(expression: str, message: str) -> None:
    with pytest.raises(IdempotencyKeyError) as refused:
        key_hash(expression, {"b": 1}, OWN)
    assert str(refused.value) == f"event_key_jmespath: {message}"


def test_an_expression_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = PayloadKeys(event_key_jmespath="id")
    monkeypatch.setattr(jmespath, "compile", None)
    monkeypatch.setattr(jmespath.parser, "Parser", None)
    assert keys.key_hash({"id": json.loads("5")}) == md5("5")
