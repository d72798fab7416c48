"""Every key and payload hash that Powertools for AWS Lambda (Python) 3.37.0 wrote comes out the same here."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from retrysafe.exceptions import IdempotencyKeyError
from retrysafe.keys import PayloadKeys

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "powertools-python-3.37.0.json").read_text("utf-8"))


@dataclasses.dataclass
class Pay:
    user: str
    amount: int


PYTHON_VALUES: dict[str, Any] = {
    "Pay(user='u', amount=5)": Pay("u", 5),
    "{'a': Decimal('1.10')}": {"a": Decimal("1.10")},
    "{'a': datetime.datetime(2026, 1, 2, 3, 4, 5)}": {
        "a": dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  # the one that was measured
    },
}


@pytest.mark.parametrize("entry", GOLDEN["keys"])
def test_a_payload_gets_the_peers_key_and_payload_hash(entry: dict[str, Any]) -> None:
    keys = PayloadKeys(
        event_key_jmespath=entry["event_key_jmespath"],
        payload_validation_jmespath=entry["payload_validation_jmespath"],
        hash_function=entry["hash_function"],
    )
    if "error" in entry:
        with pytest.raises(IdempotencyKeyError, match=r"^event_key_jmespath: powertools_json\(\) takes string"):
            keys.key_hash(entry["payload"])
        return
    digest = keys.key_hash(entry["payload"])
    if entry.get("skipped"):
        assert digest is None
        return
    function_prefix = f"{entry['lambda_function_name'] or 'test-func'}.{entry['function']}"
    assert f"{entry['key_prefix'] or function_prefix}#{digest}" == entry["key"]
    assert keys.payload_hash(entry["payload"]) == entry["payload_hash"]


@pytest.mark.parametrize("entry", GOLDEN["python_types"], ids=lambda entry: entry["type"])
def test_a_payload_of_python_types_gets_the_peers_key(entry: dict[str, Any]) -> None:
    digest = PayloadKeys().key_hash(PYTHON_VALUES[entry["repr"]])
    assert f"test-func.shop.orders.charge#{digest}" == entry["key"]


def test_the_golden_file_holds_each_kind_of_entry() -> None:
    kinds = Counter(
        "error" if "error" in entry else "no key" if "skipped" in entry else "key" for entry in GOLDEN["keys"]
    )
    assert kinds == {"error": 12, "no key": 187, "key": 91}
    assert len(GOLDEN["python_types"]) == len(PYTHON_VALUES)
