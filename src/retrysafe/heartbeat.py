"""The heartbeat: renews the leases of running calls, so that only a dead one's ends.

One daemon thread looks after all sync calls. Starting and stopping costs an entry in a set: the thread looks at the
entries when the earliest can be due, and sleeps without limit while there is none. Async calls are renewed from their
own event loop, unless their layer works in threads; see `heartbeat_async`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, cast
from weakref import ref

from retrysafe.clock import monotonic
from retrysafe.events import logger
from retrysafe.exceptions import IdempotencyLeaseLostError
from retrysafe.execution import Execution
from retrysafe.locks import new_rlock
from retrysafe.persistence.base import BasePersistenceLayer
from retrysafe.queues import Empty, new_queue

if TYPE_CHECKING:
    from _queue import SimpleQueue
    from collections.abc import Callable, Sequence

    from retrysafe.persistence.base import AsyncBasePersistenceLayer
    from retrysafe.persistence.datarecord import DataRecord

SOONER_AFTER_FAILURE = 4
LATE = 2
"""After how many of its intervals without a renewal a run's event loop counts as blocked. The lease lasts for three."""


class Beat(Protocol):
    """A heartbeat that was started for a run."""

    def stop(self, execution: Execution) -> None:
        """No more renewals for this run."""
        ...


def renewed(execution: Execution, renewal: DataRecord) -> float:
    """The store moved the lease on: seconds from this renewal's beginning to the next."""
    execution.lease_end_ms = renewal.in_progress_expiry_timestamp or 0
    return execution.call.lease.renewal_seconds


def refused(execution: Execution, error: BaseException) -> float | None:
    """The store refused, or failed: seconds from this try's beginning to the next; None where there is to be none."""
    if execution.over:
        return None  # while this renewal was under way: the record may be what the run has stored itself
    if isinstance(error, IdempotencyLeaseLostError):
        execution.lease_lost = True
        return None
    logger().warning("could not renew the lease of %s, trying again: %s", execution.idempotency_key, error)
    return execution.call.lease.renewal_seconds / SOONER_AFTER_FAILURE


class Busy(Protocol):
    """What a thread is busy with, one at a time: a layer, mostly. If it is `blocking`, with a thread of its own."""

    blocking: ClassVar[bool]


class Several(Protocol):
    """Runs that somebody knows what is to be done for, such as those of a batch."""

    @property
    def renewal_due(self) -> float:
        """When something is to be done, on the monotonic clock, in seconds."""
        ...

    @property
    def store(self) -> Busy:
        """What it is done with."""
        ...

    def beat(self) -> bool:
        """Do what is due; False where nothing ever will be again."""
        ...


Beating: TypeAlias = "Execution | Several"
"""What the thread looks after."""


def in_threads(store: BasePersistenceLayer | AsyncBasePersistenceLayer) -> BasePersistenceLayer | None:
    """The layer that a thread can renew on; None where only an event loop can."""
    return store if isinstance(store, BasePersistenceLayer) else store._in_threads


def _layer(run: Execution) -> BasePersistenceLayer:
    return cast("BasePersistenceLayer", in_threads(run.store))


def _busy_with(run: Beating) -> Busy:
    return _layer(run) if isinstance(run, Execution) else run.store


class Heart:
    """The thread, started by the first run that needs it, and the runs that it keeps alive.

    It holds runs weakly: one that an interruption tore out of its call is not kept alive for ever. Renewals of a layer
    that may block are made by a thread of that layer's own, at most one at a time, so that a store that hangs costs no
    other store's leases.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: also in a forked child, whose copies of the runs belong to the parent's calls."""
        self._runs: set[ref[Beating]] = set()
        self._busy: set[int] = set()
        self._wake: SimpleQueue[None]
        self._wakes_at = 0.0
        self._lively = False
        self._linger = 0.0
        self._thread: threading.Thread | None = None
        self._starting = new_rlock()  # a signal handler may call a function while its thread is in here

    def start(self, execution: Execution) -> Heart:
        """Renew the lease of a run until `stop`; see `in_threads` for what it can be."""
        interval = execution.call.lease.renewal_seconds
        execution.renewal_due = due = monotonic() + interval
        if self._thread is None:
            self._begin()
        self._runs.add(ref(execution))
        self._lively = True
        if due < self._wakes_at:
            self._linger = interval
            self._wake.put(None)
        return self

    def stop(self, execution: Beating) -> None:
        """Leave a run alone."""
        self._runs.discard(ref(execution))

    def look_after(self, several: Several) -> None:
        """Let it beat when it is due; to be said again when that is earlier than it was."""
        if self._thread is None:
            self._begin()
        self._runs.add(ref(several))
        if several.renewal_due < self._wakes_at:
            self._wake.put(None)

    def _begin(self) -> None:
        with self._starting:
            if self._thread is None:
                over: list[bool] = []
                self._wake = new_queue()
                thread = threading.Thread(target=self._beat, args=(over,), name="retrysafe-heartbeat", daemon=True)
                thread.start()
                self._thread = thread
                if over:  # before it was known here
                    self._thread = None

    def _beat(self, over: list[bool]) -> None:
        try:
            self._beat_on()
        finally:  # whatever ended it, the next run starts another
            over.append(True)
            self._thread = None

    def _beat_on(self) -> None:
        wake = self._wake
        while True:
            # In this order no run is missed: one added before the set is read is seen there, a later one wakes us.
            self._wakes_at = inf
            with contextlib.suppress(Empty):
                while True:
                    wake.get_nowait()
            runs = self._alive()
            now = monotonic()
            waiting = [run.renewal_due for run in runs if id(_busy_with(run)) not in self._busy]
            due = min(waiting, default=inf)
            if due <= now:
                self._renew_due(runs, now)
                continue
            del runs, waiting
            if due == inf and self._lively:
                # Calls come and go, each shorter than its lease: look again when one of them can be due, instead of
                # being woken by every one.
                self._lively = False
                due = now + self._linger
            self._wakes_at = due
            with contextlib.suppress(Empty):
                wake.get(timeout=None if due == inf else min(due - now, threading.TIMEOUT_MAX))

    def _alive(self) -> list[Beating]:
        found: list[Beating] = []
        for held in self._runs.copy():  # in one step, while other threads start and stop
            run = held()
            if run is None or (isinstance(run, Execution) and run.is_deserted()):
                self._runs.discard(held)
            else:
                found.append(run)
        return found

    def _renew_due(self, runs: list[Beating], now: float) -> None:
        by_store: dict[int, list[Beating]] = {}
        for run in runs:
            layer = id(_busy_with(run))
            if run.renewal_due <= now and layer not in self._busy:
                by_store.setdefault(layer, []).append(run)
        for key, due in by_store.items():
            if not _busy_with(due[0]).blocking:
                self._renew_all(due)
                continue
            self._busy.add(key)
            try:
                threading.Thread(target=self._renew_all, args=(due, key), name="retrysafe-renewal", daemon=True).start()
            except RuntimeError:  # no thread to be had: late is better than never
                self._renew_all(due, key)

    def _renew_all(self, due: list[Beating], busy: int | None = None) -> None:
        runs: list[Execution] = []
        try:
            for each in due:
                if ref(each) not in self._runs:
                    continue
                if isinstance(each, Execution):
                    runs.append(each)
                elif not each.beat():
                    self._runs.discard(ref(each))
            dues = renew(runs, partial(_outcomes, _layer(runs[0]))) if runs else []
            for run, next_due in zip(runs, dues, strict=True):
                if next_due is None:
                    self._runs.discard(ref(run))
                else:
                    run.renewal_due = next_due
        finally:  # else nothing of this store would ever be renewed again
            if busy is not None:
                self._busy.discard(busy)
                self._wake.put(None)


def renew(
    executions: list[Execution], renew_all: Callable[[Sequence[DataRecord]], Sequence[Any]]
) -> list[float | None]:
    """Move the leases of runs on, all of one layer: when each is due next; None where it is no longer ours.

    What became due while the layer was busy goes together, in fewer round trips where the layer can: of many runs on a
    slow store not all would have their turn in time. The next is due by when this one began, as the lease is: a store
    that fails only after a while is asked again the sooner.
    """
    began = monotonic()
    renewals: list[DataRecord] = []
    outcomes: Sequence[Any]
    try:
        renewals = [each.call.renewal(each.claim) for each in executions]
        outcomes = renew_all(renewals)
    except BaseException as error:  # noqa: BLE001  # whatever it is, the other runs' leases depend on this thread
        outcomes = [error] * len(executions)
    due: list[float | None] = []
    for number, execution in enumerate(executions):
        delay: float | None = execution.call.lease.renewal_seconds / SOONER_AFTER_FAILURE
        # The log's handlers and filters are the user's, and so may be a layer that gives too few outcomes.
        with contextlib.suppress(BaseException):
            outcome = outcomes[number]
            delay = renewed(execution, renewals[number]) if outcome is None else refused(execution, outcome)
        due.append(None if delay is None else began + delay)
    return due


def _outcomes(store: BasePersistenceLayer, renewals: Sequence[DataRecord]) -> list[Any]:
    """For each None, or what the layer says to it."""
    if len(renewals) == 1:  # most often, and it needs no import, which might fail in the midst of a run
        store._renew_record(renewals[0])
        return [None]
    from retrysafe.persistence.many import form_for_many, one_by_one  # noqa: PLC0415  # see above

    return list(form_for_many(store, "renew", one_by_one)("renew", renewals))


heart = Heart()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=heart.reset)
