"""The core schemas of pydantic's models, as far as they tell what a dump holds and under which names.

pydantic makes no promise of how they are written: what is not known here tells nothing. Imports no pydantic.
"""

from __future__ import annotations

from typing import Any, Final

_NO_SCHEMAS: Final = frozenset({"metadata", "default", "expected"})
"""What stands in a schema and is the user's."""


def type_of(schema: Any) -> str:
    """The type of a schema; "" for a part of one that is none itself."""
    # A field may itself be called "type".
    kind = schema.get("type")
    return kind if isinstance(kind, str) else ""


def inside(schema: Any) -> list[Any]:
    """What stands directly inside a part of a schema."""
    parts: Any = schema
    if isinstance(schema, dict):
        # A dict of a model's fields by name has no type, and its fields may be called what they like.
        return [part for name, part in parts.items() if name not in _NO_SCHEMAS or not type_of(parts)]
    return [*parts] if isinstance(schema, (list, tuple)) else []


def shows_aliases(schema: Any) -> bool:
    """Whether some model in it is configured to be dumped by its aliases."""
    parts: Any = schema
    config: Any = parts.get("config") if isinstance(schema, dict) and type_of(parts) else None
    return bool(config and config.get("serialize_by_alias")) or any(map(shows_aliases, inside(schema)))
