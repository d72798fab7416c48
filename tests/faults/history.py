"""The history of a campaign: what workers and the nemesis wrote down as it happened, one line of JSON for each event.

Each process appends to a file of its own in one directory, each line with one write, so that what was written before a
SIGKILL stays. Moments (`at`) are nanoseconds of the machine's monotonic clock, which all processes share, which goes
on while a process is stopped, and which no fault moves: what one process wrote down before another is earlier here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Called:
    """A caller is about to call. `call` is unique in the campaign; so is the `worker`, which no restart reuses."""

    at: int
    worker: str
    call: str
    key: str
    on_abandoned: str
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Began:
    """The function began to run for this call: its effect, which the ledger counts."""

    at: int
    worker: str
    call: str
    key: str
    owner: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Renewed:
    """The store has confirmed that this owner's lease runs anew, `since` that moment at the least."""

    at: int
    worker: str
    owner: str
    since: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The function is about to return `value`, or to raise `error`. `lapsed`: its lease was over, or taken, by then.

    `lease_until` is the moment up to which its lease is sure to run, as its worker knows it; None: it does not.
    """

    at: int
    worker: str
    call: str
    key: str
    owner: str
    value: Any
    error: str | None
    lapsed: bool
    lease_until: int | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """The caller was given `value`."""

    at: int
    worker: str
    call: str
    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class Refused:
    """The call raised; `response` is the answer that the error carries, where `has_response`."""

    at: int
    worker: str
    call: str
    key: str
    error: str
    has_response: bool
    response: Any


# What the nemesis does to one worker. From KILL on it is dead, during STOP it does nothing.
KILL = "kill"
STOP = "stop"
CLOCK = "clock"
TIME_ZONE = "time zone"
# To one worker's connections. After LOST_REPLY and HALF_OPEN the store has done what the worker was not told of.
LOST_REPLY = "lost reply"
HALF_OPEN = "half open"
CUT = "cut"
DELAY = "delay"
PARTITION = "partition"
# To the store, and so to all workers. During these it may be out of reach.
SERVER_KILL = "server kill"
FAILOVER = "failover"
DISK_FULL = "disk full"
FAILING_FSYNC = "failing fsync"


@dataclass(frozen=True, slots=True)
class Fault:
    """The nemesis did `kind` to a worker, or, where that is None, to the server, from `at` to `until`.

    CLOCK with None is the clock of the machine on which all run, moved on.
    """

    at: int
    until: int
    kind: str
    worker: str | None


Event: TypeAlias = Called | Began | Renewed | Ended | Answered | Refused | Fault

_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (Called, Began, Renewed, Ended, Answered, Refused, Fault)
}


def now() -> int:
    """This moment, for `at`."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Ledger:
    """What one process appends to. It is written at once: only the machine's end loses a line."""

    def __init__(self, directory: Path, name: str) -> None:
        self._file = os.open(directory / f"{name}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def append(self, event: Event) -> None:
        line = json.dumps([type(event).__name__, *dataclasses.astuple(event)])
        os.write(self._file, line.encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


def read(directory: Path) -> list[Event]:
    """All events that were written in this directory, by their moments."""
    return sorted(_events(directory), key=lambda event: event.at)


def _events(directory: Path) -> Iterator[Event]:
    for file in directory.glob("*.jsonl"):
        # A process killed in the middle of a line leaves it without its end.
        for line in file.read_bytes().split(b"\n")[:-1]:
            kind, *values = json.loads(line)
            yield _KINDS[kind](*values)
