"""Payloads that tests hash, and the hash that a text has."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from typing import Any


class Colour(enum.Enum):
    RED = "red"
    NOTHING = None
    PAIR = (1, 2)


@dataclasses.dataclass
class Order:
    id: Any = None
    amount: Any = None


class Event:
    raw_event = {"k": 1}  # noqa: RUF012  # as event source classes have it


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
