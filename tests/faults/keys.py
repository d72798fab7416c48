"""The keys that the workers of a campaign share, and what the function does with each: functions of the seed.

Workers choose among the newest keys, so that duplicates race, and now and then an old one, whose answer must still be
there. How far the newest has come is counted in a file that all of them have in memory.
"""

from __future__ import annotations

import mmap
import random
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CALLS_PER_KEY = 6
# Among how many of the newest keys the next call's is chosen.
_NEWEST = 8
_OLD_SHARE = 0.06

_RAISING_SHARE = 0.06
_ON_ABANDONED_RAISE_SHARE = 0.2
_SHORT_SHARE = 0.3
_LONG_SHARE = 0.02
_LONGEST_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Args:
        name: As the function is given it.
        seconds: How long the function takes.
        leases: How long it takes beyond that, in leases.
        raises: How probable it is that a run raises.
        on_abandoned: Of its config.
    """

    name: str
    seconds: float
    leases: float
    raises: float
    on_abandoned: str


@lru_cache(maxsize=1024)
def key_at(seed: int, index: int) -> Key:
    """The key at this place."""
    random_ = random.Random(f"{seed} key {index}")  # noqa: S311  # to be repeated
    share = random_.random()
    leases = random_.uniform(1.2, 1.8) if share < _LONG_SHARE else 0.0
    seconds = 0.0 if share < _LONG_SHARE + _SHORT_SHARE else random_.uniform(0, _LONGEST_SECONDS)
    raises = 0.5 if random_.random() < _RAISING_SHARE else 0.0
    on_abandoned = "raise" if random_.random() < _ON_ABANDONED_RAISE_SHARE else "retry"
    return Key(f"key-{index}", seconds, leases, raises, on_abandoned)


class Counter:
    """How many calls were begun by all processes. Two that count at once may count one: it is only a measure."""

    _NUMBER = struct.Struct("=q")

    def __init__(self, path: Path) -> None:
        path.touch()
        with path.open("r+b") as file:
            file.truncate(self._NUMBER.size)
            self._shared = mmap.mmap(file.fileno(), self._NUMBER.size)

    @property
    def value(self) -> int:
        number: int = self._NUMBER.unpack(self._shared)[0]
        return number

    def count(self) -> int:
        """One more; the number of those before."""
        before = self.value
        self._shared[:] = self._NUMBER.pack(before + 1)
        return before


def keys_until(calls: int) -> int:
    """How many keys so many calls have come to."""
    return calls // CALLS_PER_KEY + 1


def choose(random_: random.Random, calls: int) -> int:
    """The place of the key of the next call, after so many."""
    keys = keys_until(calls)
    among = keys if random_.random() < _OLD_SHARE else min(keys, _NEWEST)
    return keys - 1 - random_.randrange(among)
