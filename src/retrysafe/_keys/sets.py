"""Sets in the dump of a pydantic model, put in an order that is the same in every process.

pydantic dumps a set as a list, in the order in which Python goes through it. For strings, enums, dates and most else
that is another one in each process: a retry elsewhere would have another key, and run again. The order of numbers is
the same everywhere and stays the peers', and so does what a serializer of the user's makes of a set.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import functools
import json
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from retrysafe.schemas import inside, type_of

_HASHED_ALIKE: Final = frozenset({int, float, bool, Decimal, UUID, dt.timedelta})
"""Types whose hashes, and so the order of a set of them, are the same in every process."""

_CAN_BE_A_SET: Final = frozenset({"set", "frozenset", "any", "is-instance"})
_JUDGED_BY_ITSELF: Final = frozenset({"set", "frozenset", "model", "dataclass", "definition-ref"})
"""Types of pydantic's schemas. What is inside of the latter does not say how what is around it is dumped."""


def in_order(model: Any, dumped: Any) -> Any:
    """What `model_dump(mode="json")` made of the model, with the items of its sets in a lasting order.

    Args:
        model: The model; pydantic's, or one that only looks like it, which keeps its dump.
        dumped: Its dump. It is not changed.
    """
    return _ordered(model, dumped) if _can_hold_sets(_class_of(model)) and _may_hold_one(model) else dumped


def _class_of(value: object) -> Any:
    return type(value)


def _may_hold_one(model: Any) -> bool:
    """Whether there may be a set. The encoder is written in C: it asks for much less time than to look through all."""
    try:
        _look_through(model)
    except Exception:  # noqa: BLE001  # a set, or whatever else it cannot look through
        return True
    return False


def _without_sets(value: Any) -> Any:
    """What the encoder is to look through in place of what it does not know."""
    cls = _class_of(value)
    if issubclass(cls, (set, frozenset)) or getattr(cls, "model_computed_fields", None):
        raise TypeError
    if hasattr(cls, "model_fields"):
        return [vars(value), value.__pydantic_extra__]
    if dataclasses.is_dataclass(cls):
        return [getattr(value, field.name) for field in dataclasses.fields(cls)]
    return [*value] if issubclass(cls, collections.deque) else None


_look_through: Final = json.JSONEncoder(check_circular=False, default=_without_sets).encode


def _ordered(value: Any, dumped: Any) -> Any:
    """The same for one value. Where the two look different, a serializer made what it wanted of the value."""
    entries: Any = dumped
    if not isinstance(dumped, (dict, list)):
        return entries
    cls = _class_of(value)
    if getattr(cls, "__pydantic_root_model__", False):
        return _ordered(value.root, entries) if _own_fields(cls) else entries
    if isinstance(dumped, dict):
        inside = _entries(value, entries)
        return {name: _ordered(inside[name], item) if name in inside else item for name, item in entries.items()}
    several: Any = value
    if not (isinstance(value, (list, tuple, set, frozenset, collections.deque)) and isinstance(dumped, list)):
        return entries
    values: list[Any] = [*several]
    if len(values) != len(entries):
        return entries
    items = [_ordered(*pair) for pair in zip(values, entries, strict=True)]
    if isinstance(value, (set, frozenset)) and not all(type(item) in _HASHED_ALIKE for item in values):
        items.sort(key=functools.partial(json.dumps, sort_keys=True))
    return items


def _entries(value: Any, dumped: dict[Any, Any]) -> dict[Any, Any]:
    """What the entries of a dumped dict were made of, by their keys in it; without what a serializer has made."""
    cls = _class_of(value)
    if isinstance(value, dict):
        values: list[Any] = [*value.values()]
        return dict(zip(dumped, values, strict=True)) if len(values) == len(dumped) else {}
    if hasattr(cls, "model_fields"):
        held: dict[Any, Any] = {
            shown: getattr(value, name, None)  # a computed field is worked out again
            for shown, name in _own_fields(cls).items()
            if isinstance(dumped.get(shown), (dict, list))
        }
        return {**held, **(value.__pydantic_extra__ or {})}
    decorators = getattr(cls, "__pydantic_decorators__", None)
    if not dataclasses.is_dataclass(cls) or (
        decorators and (decorators.field_serializers or decorators.model_serializers)
    ):
        return {}
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(cls)}


@functools.lru_cache(maxsize=256)
def _can_hold_sets(cls: Any) -> bool:
    return _has_a_set(getattr(cls, "__pydantic_core_schema__", None))


def _has_a_set(schema: Any) -> bool:
    if isinstance(schema, dict) and (type_of(schema) in _CAN_BE_A_SET or "extra_fields_behavior" in schema):
        return True
    return any(map(_has_a_set, inside(schema)))


@functools.lru_cache(maxsize=256)
def _own_fields(cls: Any) -> dict[str, str]:
    """The fields of a model that no serializer of the user's dumps, by their names in the dump."""
    try:
        fields = _fields_in(cls.__pydantic_core_schema__)
    except (KeyError, TypeError, AttributeError):  # written in a way that is not known here
        return {}
    by_alias = cls.model_config.get("serialize_by_alias")
    return {
        (field.get("serialization_alias", field.get("alias", name)) if by_alias else name): name
        for name, field in fields.items()
        if not _is_dumped_by_a_function(field)
    }


def _fields_in(schema: Any) -> dict[str, Any]:
    """The fields' schemas in that of a model, "root" for a root model; {} where the whole has a serializer."""
    others: dict[str, Any] = {}
    while "serialization" not in schema:
        if type_of(schema) == "model-fields":
            computed = {field["property_name"]: field for field in schema.get("computed_fields", ())}
            return {**schema["fields"], **computed}
        if schema.get("root_model"):
            return {"root": schema["schema"]}
        others.update({each["ref"]: each for each in schema.get("definitions", ())})
        schema = others[schema["schema_ref"]] if type_of(schema) == "definition-ref" else schema["schema"]
    return {}


def _is_dumped_by_a_function(schema: Any) -> bool:
    if isinstance(schema, dict):
        if "serialization" in schema and _is_the_users(schema["serialization"]):
            return True
        if type_of(schema) in _JUDGED_BY_ITSELF:
            return False
    return any(map(_is_dumped_by_a_function, inside(schema)))


def _is_the_users(serialization: Any) -> bool:
    # pydantic has functions of its own there, for a Sequence as an example, and they keep the order.
    module: str = getattr(serialization.get("function"), "__module__", None) or ""
    return type_of(serialization).startswith("function") and module.partition(".")[0] != "pydantic"
