"""The nemesis: does to workers, connections and servers what the plan says, and writes down what it did, and when."""

from __future__ import annotations

import heapq
import itertools
import math
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from faults.history import (
    CLOCK,
    CUT,
    DELAY,
    HALF_OPEN,
    KILL,
    LOST_REPLY,
    PARTITION,
    STOP,
    TIME_ZONE,
    Fault,
    Ledger,
    now,
)
from faults.plan import CLOCK_SECONDS, FOLD_SECONDS, steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from faults.crew import Crew
    from faults.plan import Step
    from faults.store import Store

# Within that time a request comes, or there is no fault.
_STRIKES_SECONDS = 2.0
_LOOK_SECONDS = 0.02
_LONGEST_CLOCK_SECONDS = 600.0
# One that is off by less than a second may be right by all that DynamoDB says, and is believed.
_LEAST_CLOCK_SECONDS = 2.0
_LONGEST_DELAY_SECONDS = 1.2
_NS = 1_000_000_000


class Lane:
    """One plan, carried out by one thread, until so many faults have happened or it is told to stop.

    Args:
        ledger: What they are written to.
        seed: What decides about the plan.
        weights: The kinds of faults, and how often each comes.
        faults: How many.
        pause: The average pause between two, in seconds.
    """

    def __init__(self, ledger: Ledger, seed: int, weights: Mapping[str, int], faults: int, pause: float) -> None:
        self._ledger = ledger
        self._plan = steps(seed, type(self).__name__, weights)
        self._faults = faults if weights else 0
        self._pause = pause
        self._stopped = threading.Event()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.happened = 0
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float | None = None) -> bool:
        """Whether it is over; raises what ended it, if it failed."""
        self._thread.join(seconds)
        if self.failure is not None:
            raise self.failure
        return not self._thread.is_alive()

    def stop(self) -> None:
        """No more faults; those under way come to their end."""
        self._stopped.set()

    def do(self, step: Step) -> None:
        """One fault."""
        raise NotImplementedError

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do this in a while."""
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._numbers), action))

    def tell(self, kind: str, at: int, worker: str | None, until: int | None = None) -> None:
        """It has happened."""
        self.happened += 1
        self._ledger.append(Fault(at, now() if until is None else until, kind, worker))

    def _run(self) -> None:
        try:
            due = time.monotonic()
            while self.happened < self._faults:
                step = next(self._plan)
                due = max(due, time.monotonic() - self._pause) + step.pause * self._pause
                if not self._wait_until(due):
                    break
                self.do(step)
            self._stopped.set()
            while self._later:
                self._do_later()
                time.sleep(_LOOK_SECONDS)
        except BaseException as error:  # noqa: BLE001  # told to who joins
            self.failure = error

    def _wait_until(self, due: float) -> bool:
        while not self._stopped.is_set():
            self._do_later()
            following = min(due, self._later[0][0]) if self._later else due
            left = following - time.monotonic()
            if following == due and left <= 0:
                return True
            self._stopped.wait(max(left, 0.001))
        return False

    def _do_later(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()


class WorkerLane(Lane):
    """Faults of single workers, and of their connections.

    Args:
        crew: The workers.
        store: Their store.
    """

    def __init__(
        self, ledger: Ledger, seed: int, faults: int, pause: float, weights: Mapping[str, int], crew: Crew, store: Store
    ) -> None:
        super().__init__(ledger, seed, weights, faults, pause)
        self._crew = crew
        self._store = store
        self._do: dict[str, Callable[[int, Step], None]] = {
            KILL: self._kill,
            STOP: self._stop,
            CLOCK: self._move_clock,
            TIME_ZONE: self._let_summer_end,
            LOST_REPLY: self._strike,
            HALF_OPEN: self._strike,
            CUT: self._cut,
            DELAY: self._hold_up,
            PARTITION: self._hold_up,
        }

    def do(self, step: Step) -> None:
        slots = self._crew.clocked_slots if step.kind == CLOCK else self._crew.slots
        slot = slots[int(step.target * len(slots))]
        for proxy in self._store.proxies(slot):
            proxy.forget_requests()  # nobody looks at them
        self._do[step.kind](slot, step)

    def _kill(self, slot: int, _: Step) -> None:
        at, worker = now(), self._crew.worker(slot)
        self._crew.kill(slot)
        self.tell(KILL, at, worker)
        # What was done to its connections was done to it alone.
        for proxy in self._store.proxies(slot):
            proxy.disarm()
            proxy.heal()
        self._crew.fork(slot)

    def _stop(self, slot: int, step: Step) -> None:
        at, worker, pid = now(), self._crew.worker(slot), self._crew.pid(slot)
        os.kill(pid, signal.SIGSTOP)

        def go_on() -> None:
            if self._crew.worker(slot) == worker:
                os.kill(pid, signal.SIGCONT)
            # It was killed meanwhile, or stopped a second time and let go on by the first.
            self.tell(STOP, at, worker)

        self.later(step.seconds * self._store.lease_seconds, go_on)

    def _let_summer_end(self, slot: int, _: Step) -> None:
        at, worker = now(), self._crew.worker(slot)
        os.kill(self._crew.pid(slot), signal.SIGUSR1)
        self.tell(TIME_ZONE, at, worker, until=at + int(FOLD_SECONDS * _NS))

    def _move_clock(self, slot: int, step: Step) -> None:
        at, worker, until = now(), self._crew.worker(slot), None
        if self._store.judged_by_own_clock:
            # All workers' clock, as they are on one machine: back it would only make leases longer.
            further = _LEAST_CLOCK_SECONDS + step.size * _LONGEST_CLOCK_SECONDS
            self._crew.move_clock(slot, self._crew.clock_ahead(slot) + further)
            worker = None
        else:
            side = 2 * step.size - 1
            self._crew.move_clock(slot, math.copysign(_LEAST_CLOCK_SECONDS, side) + side * _LONGEST_CLOCK_SECONDS)
            until = at + CLOCK_SECONDS * _NS
        self.tell(CLOCK, at, worker, until)

    def _strike(self, slot: int, step: Step) -> None:
        at, worker, proxies = now(), self._crew.worker(slot), self._store.proxies(slot)
        nth = 1 + int(step.size * 3)
        armed = [
            proxy.drop_reply(nth=nth) if step.kind == LOST_REPLY else proxy.swallow_reply(nth=nth) for proxy in proxies
        ]
        gives_up = time.monotonic() + _STRIKES_SECONDS

        def look() -> None:
            struck = any(fault.struck for fault in armed)
            if not struck and time.monotonic() < gives_up:
                self.later(_LOOK_SECONDS, look)
                return
            for proxy in proxies:
                proxy.disarm()
            if struck:
                self.tell(step.kind, at, worker)

        look()

    def _cut(self, slot: int, _: Step) -> None:
        at, worker = now(), self._crew.worker(slot)
        for proxy in self._store.proxies(slot):
            proxy.cut()
        self.tell(CUT, at, worker)

    def _hold_up(self, slot: int, step: Step) -> None:
        at, worker, proxies = now(), self._crew.worker(slot), self._store.proxies(slot)
        for proxy in proxies:
            if step.kind == DELAY:
                proxy.delay(step.size * _LONGEST_DELAY_SECONDS)
            else:
                proxy.black_hole()

        def heal() -> None:
            for proxy in proxies:
                proxy.heal()
            self.tell(step.kind, at, worker)

        self.later(step.seconds, heal)


class StoreLane(Lane):
    """Faults of the store, one at a time."""

    def __init__(self, ledger: Ledger, seed: int, faults: int, pause: float, store: Store) -> None:
        super().__init__(ledger, seed, store.faults, faults, pause)
        self._store = store

    def do(self, step: Step) -> None:
        at = now()
        end = self._store.suffer(step.kind, step.size)
        time.sleep(step.seconds)
        end()
        self.tell(step.kind, at, None)
