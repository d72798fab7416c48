"""What "equal and of the same type" means to the tests: at every depth, with nan the same as nan."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from decimal import Decimal
from enum import Enum

import pydantic


def same(left, right):  # noqa: PLR0911  # a table of types
    """Whether both are the same value of the same types throughout."""
    if type(left) is not type(right):
        return False
    if isinstance(left, Enum):
        return left is right
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or repr(left) == repr(right)
    if isinstance(left, Decimal):
        return left.as_tuple() == right.as_tuple()
    if isinstance(left, (dt.datetime, dt.time)):
        return _face(left) == _face(right)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right)) and same(_state(left), _state(right))
    if isinstance(left, (set, frozenset)):
        return _each_has_a_partner(left, right)
    if isinstance(left, dict):
        return _each_has_a_partner(left.items(), right.items())
    if dataclasses.is_dataclass(left) or isinstance(left, pydantic.BaseModel):
        return same(_state(left), _state(right))
    return left == right


def _face(moment):
    """The wall clock, which of two equal ones, and the time zone by its kind, name and offset."""
    zone = moment.tzinfo
    # pydantic's zone is a fixed offset of its own class.
    kind = "fixed" if type(zone).__name__ in ("timezone", "TzInfo") else type(zone).__name__
    key = getattr(zone, "key", None) or (moment.tzname() if isinstance(zone, dt.timezone) else None)
    return moment.replace(tzinfo=None), moment.fold, kind, key, moment.utcoffset()


def _state(value):
    """All that an instance holds in its `__dict__`, its slots, and where pydantic keeps what it holds."""
    state = object.__getstate__(value)
    if isinstance(value, pydantic.BaseModel):
        state = value.__getstate__()
    parts = state if isinstance(state, tuple) else (state,)
    return {name: item for part in parts for name, item in (part or {}).items() if name != "__orig_class__"}


def _each_has_a_partner(left, right):
    others = list(right)
    for item in left:
        partner = next((place for place, other in enumerate(others) if same(item, other)), None)
        if partner is None:
            return False
        del others[partner]
    return not others
