"""What the nemesis is going to do, as a function of the seed alone: kinds, order, targets, pauses.

Two plans run side by side: one of faults of single workers and their connections, one of faults of the store, which
take their time and must not hold up the others.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faults.history import (
    CLOCK,
    CUT,
    DELAY,
    DISK_FULL,
    FAILING_FSYNC,
    FAILOVER,
    HALF_OPEN,
    KILL,
    LOST_REPLY,
    PARTITION,
    SERVER_KILL,
    STOP,
    TIME_ZONE,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# After that long a worker that is told so is in winter time.
FOLD_SECONDS = 1.0
# After that long a worker whose clock is moved has seen it.
CLOCK_SECONDS = 1

# From when to when a fault goes on, in seconds; a stop in leases, as it is to be longer than one.
LASTS: dict[str, tuple[float, float]] = {
    STOP: (1.1, 2.0),
    DELAY: (0.3, 1.0),
    PARTITION: (0.2, 2.0),
    DISK_FULL: (0.05, 1.5),
    FAILING_FSYNC: (0.05, 0.5),
}

_LONGEST_PAUSE = 3.0

OF_WORKERS: dict[str, int] = {KILL: 40, STOP: 14, TIME_ZONE: 4}
OF_CLOCKS: dict[str, int] = {CLOCK: 8}
OF_CONNECTIONS: dict[str, int] = {LOST_REPLY: 16, HALF_OPEN: 4, CUT: 8, DELAY: 4, PARTITION: 3}
"""How often each kind comes, relative to the others."""

OF_STORES = frozenset((SERVER_KILL, FAILOVER, DISK_FULL, FAILING_FSYNC))


@dataclass(frozen=True, slots=True)
class Step:
    """One fault to come.

    Args:
        pause: How long after the one before, in units of the average pause.
        kind: What.
        target: Whom, as a part of all there are: from 0 to 1.
        seconds: How long, for what lasts; a stop in leases.
        size: How much, from 0 to 1: of delays and of moved clocks.
    """

    pause: float
    kind: str
    target: float
    seconds: float
    size: float


def steps(seed: int, lane: str, weights: Mapping[str, int]) -> Iterator[Step]:
    """The endless plan of a lane. Each kind comes once before any is drawn."""
    random_ = random.Random(f"{seed} {lane}")  # noqa: S311  # to be repeated
    kinds = list(weights)
    first = random_.sample(kinds, len(kinds))
    for kind in itertools.chain(first, _drawn(random_, weights)):
        shortest, longest = LASTS.get(kind, (0.0, 0.0))
        yield Step(
            pause=min(random_.expovariate(1), _LONGEST_PAUSE),
            kind=kind,
            target=random_.random(),
            seconds=random_.uniform(shortest, longest),
            size=random_.random(),
        )


def _drawn(random_: random.Random, weights: Mapping[str, int]) -> Iterator[str]:
    while True:
        yield random_.choices(list(weights), list(weights.values()))[0]
