"""Places in a value, in words, for errors that say where something in it has no stored form."""

from __future__ import annotations

import json
from typing import Any, Final

from retrysafe.exact.classes import class_of
from retrysafe.exact.errors import type_name

_LONGEST_KEY: Final = 40
_LARGEST_KEY: Final = 10**12
"""Keys are shown in errors up to this length or size."""


def index(place: Any) -> str:
    """An item of a list, a tuple or a set."""
    return f"[{place}]"


def attribute(name: Any) -> str:
    """An attribute as a step of a place."""
    return f".{name}"


def key(key: Any) -> str:
    """A key of a dict: the beginning of a string, a number that is not long, else its type."""
    if isinstance(key, str):
        return f"[{json.dumps(key if len(key) <= _LONGEST_KEY else key[:_LONGEST_KEY] + '...')}]"
    if key is None or (isinstance(key, int) and abs(key) < _LARGEST_KEY):
        return f"[{key}]"
    return f"[a key of type {type_name(class_of(key))}]"
