"""What the values of a payload become before they are hashed: the form that the peers give to each type.

Loaded only when a payload holds something that JSON has no type for.
"""

from __future__ import annotations

import dataclasses
from datetime import date, time
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID


class NoFormError(TypeError):
    """A value has no form; says which type it is of, and never what it is."""


def whole(payload: Any, all_through: bool = False) -> Any:
    """A payload as something that can be searched and encoded; itself, where it has no other form.

    Objects with `dict()` or `raw_event` have a form as a payload, and none inside of one.

    Args:
        payload: The payload.
        all_through: Whether dataclasses in a dataclass become dicts at once: where functions are called, which would
            make something else of them than they make of the peers' dicts.
    """
    if isinstance(payload, type):
        return payload
    if dataclasses.is_dataclass(payload):
        return _fields_all_through(payload) if all_through else _fields_of(payload)
    if _is_model(payload):
        return _dump_of(payload)
    as_dict = getattr(payload, "dict", None) if _has(payload, "dict") else None
    if callable(as_dict):
        return as_dict()
    return getattr(payload, "raw_event", payload) if _has(payload, "raw_event") else payload


def selected_from(payload: Any, selected: Any) -> Any:
    """What was selected, as it is judged whether it is a key: out of a dataclass, the dict that the peers select there.

    One with nothing but None in it is no key.
    """
    is_dict = is_dataclass_instance(payload) and is_dataclass_instance(selected)
    return _fields_of(selected) if is_dict else selected


def json_form(value: Any) -> Any:
    """What stands in JSON for a value that JSON has no type for; it may hold such values in turn.

    Which question comes first matters where a class is several things at once; the order is the peers'.

    Raises:
        NoFormError: The type has no form.
    """
    if isinstance(value, Decimal):
        return float("nan") if value.is_nan() else str(value)
    if is_dataclass_instance(value):
        return _fields_of(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (UUID, PurePath)):
        return str(value)
    if _is_model(value):
        return _dump_of(value)
    raise NoFormError(f"{a_type(value)} cannot be hashed")


def is_dataclass_instance(value: Any) -> bool:
    """Whether the value is an instance of a dataclass, and not the class."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def a_type(value: object) -> str:
    """The value's type with its article, for a message: `a set`, `an orders.Order`."""
    if isinstance(value, type):
        return "a class"
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"


def _has(payload: Any, name: str) -> bool:
    """Whether an attribute that the payload gives out may be its own.

    Some dicts give out their entries as attributes, and make up what is not there, an empty dict or None: to go by that
    would make the payload of every call the same.
    """
    bases = type(payload).__mro__
    if dict not in bases:
        return True
    return any(name in vars(base) for base in bases) or name in payload or name in getattr(payload, "__dict__", ())


def _is_model(value: object) -> bool:
    """Whether it is a pydantic model, told without importing pydantic."""
    return hasattr(type(value), "model_dump")


def _dump_of(model: Any) -> Any:
    from retrysafe._keys.sets import in_order  # noqa: PLC0415  # most payloads have no model

    return in_order(model, model.model_dump(mode="json"))


def _fields_of(instance: Any) -> dict[str, Any]:
    """The fields as they are: what is nested in them gets its form when the encoder meets it."""
    return {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}


def _fields_all_through(value: Any) -> Any:
    """The same all through: dicts for the dataclasses in it, in lists, tuples and dicts too, as the peers have it."""
    if is_dataclass_instance(value):
        return {name: _fields_all_through(item) for name, item in _fields_of(value).items()}
    inside: Any = value
    if isinstance(value, dict):
        return {_fields_all_through(key): _fields_all_through(item) for key, item in inside.items()}
    if isinstance(value, (list, tuple)):
        items = [_fields_all_through(item) for item in inside]
        return items if isinstance(value, list) else tuple(items)
    return inside
