"""From a payload to its hashes: of which part and by which hash, and which options are refused."""

from __future__ import annotations

import hashlib
import json
import pathlib
import subprocess
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrysafe import keys as keys_module
from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.json_encoder import prepared_encoder
from retrysafe.keys import PayloadKeys
from support.payloads import Colour, Event, Order, md5


class Plain:
    pass


def test_hash_of_takes_data_that_is_selected_already() -> None:
    keys = PayloadKeys(event_key_jmespath="id")
    assert keys.hash_of({"id": 1}) == md5('{"id": 1}')
    assert keys.hash_of("abc") == md5('"abc"')


def test_there_is_no_payload_hash_without_validation() -> None:
    keys = PayloadKeys(event_key_jmespath="id")
    assert not keys.validates
    assert keys.payload_hash({"id": 1}) == ""
    assert keys.payload_hash(Plain()) == ""


def test_the_payload_hash_is_over_the_validated_part_even_where_there_is_none() -> None:
    keys = PayloadKeys(payload_validation_jmespath="amount")
    assert keys.validates
    assert keys.payload_hash({"id": 1, "amount": Decimal("1.50")}) == md5('"1.50"')
    assert keys.payload_hash(Order(1, 5)) == md5("5")
    assert keys.payload_hash({"id": 1}) == md5("null")
    assert PayloadKeys(payload_validation_jmespath="k").payload_hash(Event()) == md5("1")
    assert keys.payload_hash({"amount": ""}) == md5('""')


@pytest.mark.parametrize("name", ["md5", "sha1", "sha256", "sha3_256", "blake2b", "SHA256"])
def test_any_hash_of_fixed_length_in_hashlib_serves(name: str) -> None:
    expected = hashlib.new(name, b'{"id": 1}', usedforsecurity=False).hexdigest()
    assert PayloadKeys(hash_function=name).key_hash({"id": 1}) == expected


def test_no_hash_is_asked_for_as_if_security_rested_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = hashlib.md5

    def as_under_fips(data: bytes = b"", *, usedforsecurity: bool = True) -> Any:
        if usedforsecurity:
            raise ValueError("disabled for FIPS")
        return real(data, usedforsecurity=False)

    monkeypatch.setattr(hashlib, "md5", as_under_fips)
    digest = PayloadKeys().key_hash({"id": 1})
    assert digest == real(b'{"id": 1}', usedforsecurity=False).hexdigest()


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown hash": ({"hash_function": "md55"}, "hash_function='md55' is no hash of fixed length"),
    "empty hash": ({"hash_function": ""}, "hash_function='' is no hash"),
    "hash of variable length": ({"hash_function": "shake_128"}, "hash_function='shake_128' is no hash"),
    "another thing in hashlib": ({"hash_function": "new"}, "hash_function='new' is no hash"),
    "hash that is no name": ({"hash_function": 5}, "hash_function=5 is not a string"),
    "no hash": ({"hash_function": None}, "hash_function=None is not a string"),
    "key": (
        {"event_key_jmespath": "a."},
        "event_key_jmespath='a.' is not a JMESPath expression - (Expecting",
    ),
    "blank key": ({"event_key_jmespath": " "}, "event_key_jmespath=' ' is not a JMESPath expression"),
    "endless key": ({"event_key_jmespath": 5000 * "("}, "((' is not a JMESPath expression"),
    "key that is no text": ({"event_key_jmespath": None}, "event_key_jmespath=None is not a string"),
    "validation": ({"payload_validation_jmespath": "["}, "payload_validation_jmespath='[' is not a JMESPath"),
    "validation that is no text": (
        {"payload_validation_jmespath": 5},
        "payload_validation_jmespath=5 is not a string",
    ),
    "unknown functions": (
        {"event_key_jmespath": "a[?b(c)].d(e) | length(@)"},
        "event_key_jmespath='a[?b(c)].d(e) | length(@)' calls unknown functions: b, d.",
    ),
    "built-in function, other options": (
        {"event_key_jmespath": "powertools_json(a)", "jmespath_options": {"dict_cls": OrderedDict}},
        "calls unknown functions: powertools_json. With jmespath_options there are only",
    ),
    "options": ({"jmespath_options": "x"}, "jmespath_options='x' is neither a jmespath.Options nor a dict"),
    "options, with a key": (
        {"jmespath_options": 5, "event_key_jmespath": "a"},
        "jmespath_options=5 is neither a jmespath.Options nor a dict",
    ),
    "argument of options": ({"jmespath_options": {"x": 1}}, "jmespath_options={'x': 1} is not what"),
    "functions": ({"jmespath_options": {"custom_functions": 5}}, "custom_functions must be an instance of"),
    "class of functions": ({"jmespath_options": {"custom_functions": Plain}}, "must be an instance of"),
}


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_an_unusable_option_is_refused_at_construction_by_name_and_value(options: Any, message: str) -> None:
    with pytest.raises(IdempotencyConfigError) as refused:
        PayloadKeys(**options)
    assert message in str(refused.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def turned_round(value: Any) -> Any:
    """The same value, each dict filled in the opposite order."""
    if isinstance(value, dict):
        return {key: turned_round(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [turned_round(item) for item in value]
    return value


@given(JSON)
def test_a_json_payload_is_hashed_as_the_standard_library_writes_it(payload: Any) -> None:
    assert PayloadKeys().key_hash(payload) in (md5(json.dumps(payload, sort_keys=True)), None)


@given(st.dictionaries(st.text(), JSON, min_size=2, max_size=5))
def test_the_order_in_which_a_dict_was_filled_does_not_matter(payload: dict[str, Any]) -> None:
    keys = PayloadKeys(payload_validation_jmespath="@")
    assert keys.key_hash(turned_round(payload)) == keys.key_hash(payload)
    assert keys.payload_hash(turned_round(payload)) == keys.payload_hash(payload)


@given(JSON, JSON)
def test_payloads_that_json_tells_apart_have_different_keys(one: Any, other: Any) -> None:
    same_text = json.dumps([one], sort_keys=True) == json.dumps([other], sort_keys=True)
    keys = PayloadKeys()
    assert (keys.key_hash([one, 1]) == keys.key_hash([other, 1])) is same_text


@given(st.dictionaries(st.text(), JSON, min_size=1, max_size=5))
def test_hashing_leaves_the_payload_as_it_was(payload: dict[str, Any]) -> None:
    before = json.dumps(payload)
    keys = PayloadKeys(event_key_jmespath="[@, values(@)]", payload_validation_jmespath="*")
    keys.key_hash(payload)
    keys.payload_hash(payload)
    assert json.dumps(payload) == before


def test_a_payload_that_is_changed_later_has_left_its_old_key_behind() -> None:
    payload = {"items": [Order(1)]}
    keys = PayloadKeys(event_key_jmespath="items")
    before = keys.key_hash(payload)
    payload["items"][0].id = 2
    assert before == md5('[{"amount": null, "id": 1}]')
    assert keys.key_hash(payload) == md5('[{"amount": null, "id": 2}]')


def test_one_object_serves_many_threads_at_once() -> None:
    keys = PayloadKeys(event_key_jmespath="[order.id, tags]", payload_validation_jmespath="order.amount")
    shared = {"tags": [Colour.RED] * 50}

    def both(number: int) -> tuple[str | None, str]:
        payload = {"order": Order(number, Decimal(number)), **shared}
        return keys.key_hash(payload), keys.payload_hash(payload)

    expected = [(md5(json.dumps([n, ["red"] * 50])), md5(f'"{n}"')) for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(both, range(200))) == expected


@given(JSON)
def test_without_the_c_encoder_the_text_is_the_same(payload: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json.encoder, "c_make_encoder", None)
        encoded = prepared_encoder(keys_module._json_form, allow_nan=True)
    data = [payload, Decimal("1.10"), {"b": (1, 2), "a": Order()}]
    assert "".join(encoded(data, 0)) == "".join(keys_module._encoded(data, 0))


def test_plain_payloads_load_neither_jmespath_nor_what_other_types_need() -> None:
    program = """
import sys
from retrysafe.keys import PayloadKeys
PayloadKeys().key_hash({"id": [1, 2.5, None, "x"]})
heavy = {"jmespath", "decimal", "uuid", "pydantic"}
print(sorted(heavy & set(sys.modules)))
"""
    # -S: what the environment itself loads at the start would count otherwise.
    ran = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": str(pathlib.Path(keys_module.__file__).parents[1])},
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == "[]"
