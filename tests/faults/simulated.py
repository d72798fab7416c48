"""Workers on one key, simulated: bytes in, a history out, by a store that is right or has a planted bug.

Three workers call, one call each at a time. Time passes in ticks, in which whoever is not stopped looks again, renews
its lease and ends what it has begun; only functions run until they are told to end.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from faults.history import CUT, KILL, STOP, Answered, Began, Called, Ended, Event, Fault, Refused
from faults.written import ABANDONED, HELD, LEASE_MS, LOST, STORE

WORKERS = 3
_LEASE = LEASE_MS * 1_000_000
_PATIENCE = 4 * _LEASE
_TICK = 50_000_000
_STEP = 1_000
# Steps far more often than anything else, so that calls get somewhere.
_COMMANDS = ("step",) * 9 + ("pass",) * 3 + ("stop",) * 2 + ("kill", "cut")


@dataclass
class Record:
    """What stands in the store."""

    owner: str
    attempt: int
    lease_end: int
    answer: str | None = None


class Store:
    """The record of one key, and the rules of the contract."""

    # Whether what a claim found is still so when it writes.
    atomic = True

    def __init__(self) -> None:
        self.record: Record | None = None

    def in_the_way(self, now: int, *, decided_by_a_person: bool) -> Record | None:
        """The record that refuses a claim."""
        record = self.record
        if record is None or (record.answer is None and self.is_over(record, now) and not decided_by_a_person):
            return None
        return record

    def is_over(self, record: Record, now: int) -> bool:
        return now > record.lease_end

    def claim(self, owner: str, now: int) -> None:
        attempt = 1 if self.record is None else self.record.attempt + 1
        self.record = Record(owner, attempt, now + _LEASE)

    def owns(self, owner: str) -> bool:
        return self.record is not None and self.record.owner == owner

    def renew(self, owner: str, now: int) -> bool:
        if self.record is None or not self.owns(owner) or self.record.answer is not None:
            return False
        self.record.lease_end = now + _LEASE
        return True

    def complete(self, owner: str, answer: str) -> bool:
        if self.record is None or not self.owns(owner):
            return False
        self.record.answer = answer
        return True

    def release(self, owner: str) -> None:
        if self.record is not None and self.owns(owner) and self.record.answer is None:
            self.record = None


class Unfenced(Store):
    """Whoever completes is taken for the owner."""

    def complete(self, owner: str, answer: str) -> bool:
        self.record = Record(owner, 1, 0, answer)
        return True


class NotAtomic(Store):
    """Looks, and then puts."""

    atomic = False


class Forgetful(Store):
    """Acknowledges completions, and keeps none."""

    def complete(self, owner: str, answer: str) -> bool:
        return self.owns(owner)


class Impatient(Store):
    """Lets leases lapse long before they are over."""

    def is_over(self, record: Record, now: int) -> bool:
        return now > record.lease_end - _LEASE * 3 // 4


class Stubborn(Store):
    """Never lets a lease lapse."""

    def is_over(self, record: Record, now: int) -> bool:
        return False


@dataclass
class Worker:
    """One worker, and its call under way.

    Attributes:
        at: What it does next: nothing, "claim", "write", "begin", "run", "end" or "reply".
    """

    name: str
    at: str = ""
    call: str = ""
    raises: bool = False
    gives_up_at: int = 0
    lease_end: int = 0
    lost: bool = False
    reply: Event | None = None
    stopped_at: int | None = None


class Machine:
    """The workers, the store, and the history so far.

    Args:
        store: The store.
        on_abandoned: Of all calls.
    """

    def __init__(self, store: Store, on_abandoned: str) -> None:
        self.events: list[Event] = []
        self._store = store
        self._on_abandoned = on_abandoned
        self._now = 0
        self._numbers = itertools.count()
        self._workers = [self._fresh() for _ in range(WORKERS)]

    def carry_out(self, commands: bytes) -> list[Event]:
        """The history of these commands. Each byte is one: which, for whom, and a number that some of them need."""
        for byte in commands:
            rest, kind = divmod(byte, len(_COMMANDS))
            number, index = divmod(rest, WORKERS)
            self._now += _STEP
            getattr(self, f"_{_COMMANDS[kind]}")(index, number)
        for index in range(WORKERS):
            self._go_on(self._workers[index])
        while any(worker.at for worker in self._workers):
            for worker in self._workers:
                if worker.at == "run":
                    self._take_step(worker)
            self._tick()
        return self.events

    # --- commands -----------------------------------------------------------------------------------------------------

    def _step(self, index: int, number: int) -> None:
        worker = self._workers[index]
        if not worker.at and worker.stopped_at is None:
            worker.call = f"{worker.name}-{next(self._numbers)}"
            worker.raises, worker.lost = number == 0, False
            worker.at, worker.gives_up_at = "claim", self._now + _PATIENCE if number < 3 else 0
            self._tell(Called(self._now, worker.name, worker.call, "key", self._on_abandoned, LEASE_MS))
        else:
            self._take_step(worker)

    def _pass(self, _: int, number: int) -> None:
        for _tick in range(1 + 8 * number):
            self._tick()

    def _kill(self, index: int, _: int) -> None:
        worker = self._workers[index]
        self._tell(Fault(self._now, self._now, KILL, worker.name))
        self._go_on(worker)
        self._workers[index] = self._fresh()

    def _stop(self, index: int, _: int) -> None:
        worker = self._workers[index]
        if worker.stopped_at is None:
            worker.stopped_at = self._now
        else:
            self._go_on(worker)

    def _cut(self, index: int, number: int) -> None:
        """The connection breaks after the store has done as it was told, or before."""
        worker = self._workers[index]
        if worker.at not in ("claim", "end") or worker.stopped_at is not None:
            return
        self._tell(Fault(self._now, self._now, CUT, worker.name))
        error, response = STORE, None
        if worker.at == "claim" and number % 2 and self._in_the_way() is None:
            self._store.claim(worker.call, self._now)
        if worker.at == "end" and worker.raises:
            error = "ValueError"
        elif worker.at == "end":
            response = _answer(worker)
            if number % 2:
                self._store.complete(worker.call, response)
        worker.at, worker.reply = "reply", self._refusal(worker, error, response)

    # --- what happens -------------------------------------------------------------------------------------------------

    def _fresh(self) -> Worker:
        return Worker(f"w{next(self._numbers)}")

    def _tell(self, event: Event) -> None:
        self.events.append(event)
        self._now += _STEP

    def _go_on(self, worker: Worker) -> None:
        if worker.stopped_at is not None:
            self._tell(Fault(worker.stopped_at, self._now, STOP, worker.name))
            worker.stopped_at = None

    def _tick(self) -> None:
        self._now += _TICK
        for worker in self._workers:
            if worker.stopped_at is not None:
                continue
            if worker.at in ("begin", "run"):
                worker.lost = worker.lost or not self._store.renew(worker.call, self._now)
                worker.lease_end = self._now + _LEASE
            if worker.at not in ("", "run"):
                self._take_step(worker)

    def _take_step(self, worker: Worker) -> None:
        if worker.stopped_at is None and worker.at:
            self._now += _STEP
            getattr(self, f"_at_{worker.at}")(worker)

    def _in_the_way(self) -> Record | None:
        return self._store.in_the_way(self._now, decided_by_a_person=self._on_abandoned == "raise")

    def _at_claim(self, worker: Worker) -> None:
        found = self._in_the_way()
        if found is None:
            worker.at = "write"
            if self._store.atomic:
                self._at_write(worker)
        elif found.answer is not None:
            worker.at, worker.reply = "reply", Answered(0, worker.name, worker.call, "key", found.answer)
        elif self._now >= worker.gives_up_at or self._store.is_over(found, self._now):
            error = ABANDONED if self._on_abandoned == "raise" and self._store.is_over(found, self._now) else HELD
            worker.at, worker.reply = "reply", self._refusal(worker, error)

    def _at_write(self, worker: Worker) -> None:
        self._store.claim(worker.call, self._now)
        worker.at, worker.lease_end = "begin", self._now + _LEASE

    def _at_begin(self, worker: Worker) -> None:
        self._tell(Began(self._now, worker.name, worker.call, "key", worker.call, 1))
        worker.at = "run"

    def _at_run(self, worker: Worker) -> None:
        lapsed = worker.lost or self._now > worker.lease_end
        value, error = (None, "ValueError") if worker.raises else (_answer(worker), None)
        names = worker.name, worker.call, "key", worker.call
        self._tell(Ended(self._now, *names, value, error, lapsed, worker.lease_end))
        worker.at = "end"

    def _at_end(self, worker: Worker) -> None:
        worker.at = "reply"
        if worker.raises:
            self._store.release(worker.call)
            worker.reply = self._refusal(worker, "ValueError")
        elif self._store.complete(worker.call, _answer(worker)):
            worker.reply = Answered(0, worker.name, worker.call, "key", _answer(worker))
        else:
            worker.reply = self._refusal(worker, LOST, _answer(worker))

    def _at_reply(self, worker: Worker) -> None:
        reply = worker.reply
        assert isinstance(reply, Answered | Refused)
        kept = {name: getattr(reply, name) for name in reply.__slots__ if name != "at"}
        self._tell(type(reply)(at=self._now, **kept))
        worker.at = ""

    def _refusal(self, worker: Worker, error: str, response: str | None = None) -> Refused:
        return Refused(0, worker.name, worker.call, "key", error, response is not None, response)


def _answer(worker: Worker) -> str:
    return f"by {worker.call}"
