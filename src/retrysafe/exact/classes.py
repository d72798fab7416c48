"""Classes of the user's: which kinds come back as themselves, and how instances are taken apart and rebuilt.

They are enums, NamedTuples, dataclasses and pydantic models. All are rebuilt from their state and none by
calling `__init__`: see `rebuild_dataclass`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind: TypeAlias = Literal["enum", "namedtuple", "dataclass", "model"]


def kind_of(cls: type[Any]) -> Kind | None:
    """Which kind of class this is; None for one whose instances are not stored as such."""
    bases = cls.__mro__
    if Enum in bases:
        return "enum"
    if tuple in bases:
        return "namedtuple" if hasattr(cls, "_fields") and hasattr(cls, "_make") else None
    if BaseException in bases:
        return None
    if dataclasses.is_dataclass(cls):
        return "dataclass"
    # A class can only be a model where pydantic has been imported already. Its version 1 has no such method.
    pydantic: Any = sys.modules.get("pydantic.main")
    if pydantic is not None and pydantic.BaseModel in bases and hasattr(cls, "model_dump"):
        return "model"
    return None


def class_of(value: object) -> type[Any]:
    """The value's class."""
    return type(value)


def instance_state(value: object) -> dict[str, Any]:
    """All that an instance holds in its `__dict__` and its slots, whatever its class calls its state."""
    # A dict, or the pair of a dict and a dict of the slots; None for what is empty.
    state: Any = object.__getstate__(value)
    parts: list[Any] = [*state] if isinstance(state, tuple) else [state]
    return {name: item for part in parts if part for name, item in part.items()}


def state_beside(value: object, names: Iterable[str]) -> dict[str, Any]:
    """What an instance holds beside its fields, such as an attribute set in `__post_init__`.

    Cached properties are left out: they are worked out again where they are asked for. So is the note that
    `typing` leaves on an instance of a generic class made as `Page[int](...)`.
    """
    cls, left_out = type(value), {"__orig_class__", *names}
    return {
        name: item
        for name, item in instance_state(value).items()
        if name not in left_out and not isinstance(getattr(cls, name, None), functools.cached_property)
    }


def dataclass_fields(value: Any) -> dict[str, Any]:
    """The fields of a dataclass instance by name.

    Raises:
        AttributeError: A field was never set.
    """
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def rebuild_dataclass(cls: type[Any], values: dict[str, Any], beside: dict[str, Any] | None = None) -> Any:
    """A dataclass instance with these fields, made without its `__init__` and `__post_init__`.

    The stored fields are what the instance held *after* both had run. Running them again would apply them
    twice (a fee would be added again), would ask for `InitVar`s, which no instance keeps, and could not set a
    field with `init=False`; the instance that comes back would not be equal.

    Args:
        cls: The dataclass.
        values: Its fields by name. Names that are no fields are passed over, so that a field can be removed
            from the class; a field that is missing takes its default, so that one can be added.
        beside: What the instance held beside its fields. What the class takes no longer is passed over, too.

    Raises:
        ValueError: A field without a default has no value.
        TypeError: The class is built on one of Python's own, such as dict, whose part of it cannot be
            rebuilt.
    """
    made = object.__new__(cls)
    given = {**(beside or {}), **values}  # what stood beside the fields may be one of them by now
    for field in dataclasses.fields(cls):
        if field.name in given:
            value = given[field.name]
        elif field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            raise ValueError(f"no value for the field {field.name!r} of {cls.__qualname__}")
        # Past a frozen class's own __setattr__, which refuses.
        object.__setattr__(made, field.name, value)
    _set_beside(made, beside)
    return made


def rebuild_namedtuple(cls: type[Any], values: list[Any], beside: dict[str, Any] | None = None) -> Any:
    """A NamedTuple with these values; fields missing at its end take their defaults.

    Raises:
        ValueError: There are more values than fields, or a field without a default has none.
    """
    names: tuple[str, ...] = cls._fields
    defaults: dict[str, Any] = getattr(cls, "_field_defaults", {})
    missing = names[len(values) :]
    if len(values) > len(names) or not all(name in defaults for name in missing):
        raise ValueError(f"{len(values)} values for the {len(names)} fields of {cls.__qualname__}")
    # Not the class's own __new__, for the reasons given with rebuild_dataclass.
    new: Any = getattr(tuple, "__new__")  # noqa: B009  # pyright cannot know its items otherwise
    made = new(cls, (*values, *(defaults[name] for name in missing)))
    _set_beside(made, beside)
    return made


def _set_beside(made: Any, beside: dict[str, Any] | None) -> None:
    """Set what an instance held beside its fields, as far as its class takes it by now."""
    for name, value in (beside or {}).items():
        with contextlib.suppress(AttributeError):  # it is a property, or the class has slots since
            object.__setattr__(made, name, value)
