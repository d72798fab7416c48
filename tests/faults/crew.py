"""The crew: who works in which slot, forked anew when the nemesis has killed its worker; and their clocks."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from faults.nursery import Nursery
from faults.plan import CLOCK_SECONDS
from servers import ServerClock, programs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults.store import Store
    from faults.worker import Job

SYNC_LANES = 3
ASYNC_LANES = 6


# Longer than any call takes that is under way, and than it takes to call every key once.
LONGEST_CALL_SECONDS = 60.0
LONGEST_AUDIT_SECONDS = 900.0


class WorkerFailedError(Exception):
    """A worker ended by itself, which none does unless something is wrong with it."""


class Home:
    """Where the workers of some slots come from, and the clock that they share.

    Args:
        directory: Of the campaign.
        spec: Of the store.
        clock: The clock; None for the machine's.
        shared: Whether it is all workers' clock, and so must show the same to all.
    """

    def __init__(
        self, directory: Path, spec: dict[str, Any], clock: ServerClock | None, *, shared: bool = False
    ) -> None:
        self.clock = clock
        self.ahead = 0.0
        environment = {}
        if clock is not None:
            # The kind that is made for threads.
            library = programs.libfaketime().with_name("libfaketimeMT.so.1")
            environment = {**clock.environment, "LD_PRELOAD": str(library)}
            if not shared:
                # Programs that ask for the time at every turn are slowed down by looking into the file each time.
                del environment["FAKETIME_NO_CACHE"]
                environment["FAKETIME_CACHE_DURATION"] = str(CLOCK_SECONDS)
        self.nursery = Nursery(directory, spec, environment)


class Crew:
    """So many workers, every other one async.

    Args:
        store: Where they keep their records.
        job: What each does, save what is its own.
        slots: How many.
        clocked: How many of them have a clock of their own that is moved, where the store judges.
    """

    def __init__(self, store: Store, job: Job, slots: int, clocked: int) -> None:
        self._store = store
        self._job = job
        self.slots = range(slots)
        self.clocked_slots = self.slots if store.judged_by_own_clock else self.slots[:clocked]
        self._numbers = itertools.count()
        self._working: dict[int, tuple[str, int]] = {}
        self._homes: dict[int, Home] = {}
        homes = self._settle()
        for slot in self.slots:
            self._homes[slot] = next(homes)

    def _settle(self) -> Iterator[Home]:
        directory, spec = Path(self._job.directory), self._store.spec(0)
        if self._store.judged_by_own_clock:
            yield from itertools.repeat(Home(directory, spec, ServerClock(), shared=True))
        for _ in self.clocked_slots:
            yield Home(directory, spec, ServerClock())
        yield from itertools.repeat(Home(directory, spec, None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for home in set(self._homes.values()):
            home.nursery.close()

    @property
    def logs(self) -> str:
        """What workers have complained of."""
        return "".join(home.nursery.log.read_text() for home in set(self._homes.values()))

    def worker(self, slot: int) -> str:
        """Who works there."""
        return self._working[slot][0]

    def pid(self, slot: int) -> int:
        """Its process."""
        return self._working[slot][1]

    def begin(self) -> float:
        """Let all begin to work: since when they do, as `time.monotonic` has it."""
        for home in set(self._homes.values()):
            home.nursery.wait()
        self._job = dataclasses.replace(self._job, began=time.monotonic())
        for slot in self.slots:
            self.fork(slot)
        return self._job.began

    def fork(self, slot: int) -> None:
        """A new worker for the slot, on the same machine: its clock is as wrong as it was."""
        home = self._homes[slot]
        worker = f"{slot}.{next(self._numbers)}"
        job = dataclasses.replace(
            self._job,
            worker=worker,
            store=self._store.spec(slot),
            is_async=slot % 2 == 1,
            lanes=ASYNC_LANES if slot % 2 else SYNC_LANES,
        )
        self._working[slot] = worker, home.nursery.fork(job)

    def kill(self, slot: int) -> None:
        """Kill it, at whatever it is."""
        worker, pid = self._working[slot]
        code = self._homes[slot].nursery.kill(pid)
        if code != -signal.SIGKILL:
            raise WorkerFailedError(f"{worker} ended with {code}: {self.logs[-4000:]}")

    def end(self) -> None:
        """Let all finish what they are at."""
        for _, pid in self._working.values():
            os.kill(pid, signal.SIGTERM)
        for slot, (worker, pid) in self._working.items():
            self._finish(slot, worker, pid, LONGEST_CALL_SECONDS)

    def audit(self, keys: int) -> None:
        """Call every key once more, half of them sync and half of them async."""
        middle, slots = keys // 2, self.slots[-2:]
        for slot, (first, last) in zip(slots, [(0, middle), (middle, keys)], strict=True):
            self._job = dataclasses.replace(self._job, audit=(first, last))
            self.fork(slot)
        for slot in slots:
            self._finish(slot, *self._working[slot], LONGEST_AUDIT_SECONDS)

    def clock_ahead(self, slot: int) -> float:
        """How far the clock of this slot is ahead, in seconds."""
        return self._homes[slot].ahead

    def move_clock(self, slot: int, ahead: float) -> None:
        """Let it be so far ahead, and that of all who share it."""
        home = self._homes[slot]
        assert home.clock is not None, "its clock is the machine's"
        home.clock.advance(ahead - home.ahead, ())
        home.ahead = ahead

    def _finish(self, slot: int, worker: str, pid: int, seconds: float) -> None:
        code = self._homes[slot].nursery.end(pid, seconds)
        if code:
            raise WorkerFailedError(f"{worker} ended with {code}: {self.logs[-4000:]}")
