"""A worker of a campaign: calls idempotent functions as a client would, until answered, and writes down all of it.

It is one process, in which threads call a sync function, or tasks an async one. It is told what to do by a `job`, and
ends when it is sent SIGTERM and the calls under way have ended. SIGUSR1 moves it into a time zone whose summer time is
about to end.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faults.history import Answered, Began, Called, Ended, Ledger, Refused, Renewed, now
from faults.keys import Counter, Key, choose, key_at
from faults.layers import Leases, make_layer
from faults.plan import FOLD_SECONDS
from retrysafe import IdempotencyConfig, current_execution, exceptions, idempotent_function
from retrysafe.exceptions import IdempotencyAbandonedError, IdempotencyBaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# A month: no window is over within a campaign, however far its machine's clock is moved.
WINDOW_SECONDS = 30 * 86_400
WAIT_SECONDS = 10.0
# After SIGTERM a call is not tried again for longer than that.
PATIENCE_SECONDS = 15.0
# What a worker is told by; to be blocked until it listens.
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

_WAITING_SHARE = 0.6
_LONGEST_PAUSE = 0.1


class BodyFailedError(Exception):
    """What the function raises now and then."""


@dataclass(frozen=True)
class Job:
    """What a worker is to do.

    Args:
        worker: Its name, which no other ever has.
        directory: Where the ledgers are.
        store: What `layers.make_layer` needs.
        is_async: Whether it is tasks that call.
        lanes: How many calls it has under way at most.
        lease_seconds: Of its functions.
        seed: The campaign's.
        began: When the campaign began, as `time.monotonic` has it.
        calls_per_second: How many calls all workers together are to make.
        judged_by_own_clock: Whether leases are judged by the clock of this machine, and so by one that may be moved.
        audit: From which key to which each is to be called once, and nothing else; None for work without end.
    """

    worker: str
    directory: str
    store: dict[str, Any]
    is_async: bool
    lanes: int
    lease_seconds: float
    seed: int
    began: float
    calls_per_second: float
    judged_by_own_clock: bool = False
    audit: tuple[int, int] | None = None


@dataclass(frozen=True)
class Run:
    """A run of the function, begun; `clock` is what its machine's showed against the monotonic one."""

    call: str
    key: Key
    owner: str
    clock: int


class Worker:
    """One worker, in its own process."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._ledger = Ledger(Path(job.directory), job.worker)
        self._counter = Counter(Path(job.directory, "calls"))
        self._random = random.Random(f"{job.seed} {job.worker}")  # noqa: S311  # no secret
        self._numbers = itertools.count()
        self._lease_ns = int(job.lease_seconds * 1e9)
        self._leases = Leases(lambda owner, since: self._ledger.append(Renewed(now(), job.worker, owner, since)))
        self._layer = make_layer(job.store, is_async=job.is_async)
        self._leases.watch(self._layer, is_async=job.is_async)
        make = self._make_async if job.is_async else self._make_sync
        self._functions = {
            (in_progress, abandoned): make(in_progress, abandoned)
            for in_progress in ("wait", "raise")
            for abandoned in ("retry", "raise")
        }
        self._stopped_at: float | None = None
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGUSR1, _let_summer_end)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    # --- sync ---------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All calls, by threads."""
        with ThreadPoolExecutor(self._job.lanes) as threads:
            lanes = [threads.submit(self._lane, lane) for lane in range(self._job.lanes)]
            # A signal may reach any thread, and its handler runs when the main one does.
            while wait(lanes, timeout=_LONGEST_PAUSE).not_done:
                pass
        for lane in lanes:
            lane.result()
        self._layer.close()

    def _lane(self, lane: int) -> None:
        for index in self._indexes(lane):
            for pause in iter(self._ahead, None):
                time.sleep(pause)
            while (pause := self._call(key_at(self._job.seed, index))) is not None:
                time.sleep(pause)

    def _call(self, key: Key) -> float | None:
        """One call: the pause before it is to be made again, if it is."""
        call = self._called(key)
        try:
            value = self._function(key)(key=key.name, call=call, traits=key)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is written down
            return self._refused(key, call, error)
        return self._answered(key, call, value)

    def _make_sync(self, in_progress: str, abandoned: str) -> Callable[..., Any]:
        @idempotent_function(**self._options(in_progress, abandoned))
        def work(key: str, call: str, traits: Key) -> str:
            run = self._begin(traits, call)
            if takes := self._takes(traits):
                time.sleep(takes)
            return self._end(run)

        return work

    # --- async --------------------------------------------------------------------------------------------------------

    async def run_async(self) -> None:
        """All calls, by tasks."""
        async with asyncio.TaskGroup() as tasks:
            for lane in range(self._job.lanes):
                tasks.create_task(self._lane_async(lane))
        await self._layer.close()

    async def _lane_async(self, lane: int) -> None:
        for index in self._indexes(lane):
            for pause in iter(self._ahead, None):
                await asyncio.sleep(pause)
            while (pause := await self._call_async(key_at(self._job.seed, index))) is not None:  # noqa: ASYNC110  # no event would tell
                await asyncio.sleep(pause)

    async def _call_async(self, key: Key) -> float | None:
        call = self._called(key)
        try:
            value = await self._function(key)(key=key.name, call=call, traits=key)
        except Exception as error:  # noqa: BLE001  # as above
            return self._refused(key, call, error)
        return self._answered(key, call, value)

    def _make_async(self, in_progress: str, abandoned: str) -> Callable[..., Any]:
        @idempotent_function(**self._options(in_progress, abandoned))
        async def work(key: str, call: str, traits: Key) -> str:
            run = self._begin(traits, call)
            if takes := self._takes(traits):
                await asyncio.sleep(takes)
            return self._end(run)

        return work

    # --- what both do -------------------------------------------------------------------------------------------------

    def _options(self, in_progress: str, abandoned: str) -> dict[str, Any]:
        return {
            "data_keyword_argument": "key",
            "persistence_store": self._layer,
            "key_prefix": "faults",
            "config": IdempotencyConfig(
                expires_after_seconds=WINDOW_SECONDS,
                in_progress_expires_after_seconds=self._job.lease_seconds,
                on_in_progress=in_progress,
                wait_timeout_seconds=WAIT_SECONDS,
                on_abandoned=abandoned,
            ),
        }

    def _indexes(self, lane: int) -> Iterable[int]:
        """The places of the keys that this lane calls, one after the other."""
        if self._job.audit is not None:
            first, last = self._job.audit
            yield from range(first + lane, last, self._job.lanes)
            return
        while self._stopped_at is None:
            yield choose(self._random, self._counter.count())

    def _ahead(self) -> float | None:
        """The pause before the next call, where there have been more than there are to be by now."""
        if self._job.audit is not None or self._stopped_at is not None:
            return None
        due = (time.monotonic() - self._job.began) * self._job.calls_per_second
        return self._random.uniform(0, _LONGEST_PAUSE) if self._counter.value > due else None

    def _function(self, key: Key) -> Callable[..., Any]:
        waits = self._random.random() < _WAITING_SHARE
        return self._functions["wait" if waits else "raise", key.on_abandoned]

    def _called(self, key: Key) -> str:
        call = f"{self._job.worker}-{next(self._numbers)}"
        self._ledger.append(
            Called(now(), self._job.worker, call, key.name, key.on_abandoned, int(self._job.lease_seconds * 1000))
        )
        return call

    def _answered(self, key: Key, call: str, value: Any) -> None:
        self._ledger.append(Answered(now(), self._job.worker, call, key.name, value))

    def _refused(self, key: Key, call: str, error: Exception) -> float | None:
        response = getattr(error, "response", None)
        self._ledger.append(
            Refused(now(), self._job.worker, call, key.name, _name_of(error), response is not None, response)
        )
        if not isinstance(error, IdempotencyBaseError | BodyFailedError):
            traceback.print_exception(error)
        if isinstance(error, IdempotencyAbandonedError):
            return None  # a person's turn
        if self._stopped_at is not None and time.monotonic() > self._stopped_at + PATIENCE_SECONDS:
            return None
        jitter = self._random.uniform(0, _LONGEST_PAUSE)
        return min(getattr(error, "retry_after", None) or 0.0, self._job.lease_seconds) + jitter

    def _takes(self, key: Key) -> float:
        """How many seconds the function takes."""
        return key.seconds + key.leases * self._job.lease_seconds

    def _begin(self, key: Key, call: str) -> Run:
        execution = current_execution()
        self._ledger.append(Began(now(), self._job.worker, call, key.name, execution.owner, execution.attempt))
        return Run(call, key, execution.owner, _wall_against_monotonic())

    def _end(self, run: Run) -> str:
        """The function's answer."""
        value, error = f"{run.key.name} by {run.owner}", None
        if self._random.random() < run.key.raises:
            value, error = None, BodyFailedError.__name__
        lease_until = self._leases.take(run.owner) + self._lease_ns
        lapsed = current_execution().lease_lost or now() > lease_until
        if self._job.judged_by_own_clock and abs(_wall_against_monotonic() - run.clock) > self._lease_ns // 10:
            lapsed = True
        names = self._job.worker, run.call, run.key.name
        self._ledger.append(Ended(now(), *names, run.owner, value, error, lapsed, lease_until))
        if error is not None:
            raise BodyFailedError
        return value

    def _stop(self, *_: object) -> None:
        self._stopped_at = time.monotonic()


def _name_of(error: Exception) -> str:
    """Its class, or the nearest that users know."""
    known = (each for each in type(error).__mro__ if each.__module__ == exceptions.__name__)
    return next(known, type(error)).__name__


def _wall_against_monotonic() -> int:
    return time.time_ns() - now()


def _let_summer_end(*_: object) -> None:
    """Move to where summer time ends in a second: what the clock on the wall shows then goes back by an hour."""
    ends = time.gmtime(time.time() + 3600 + FOLD_SECONDS)
    os.environ["TZ"] = f"STD0DST-1,0/0,{ends.tm_yday - 1}/{time.strftime('%H:%M:%S', ends)}"
    time.tzset()


def main(job: Job) -> None:
    """Work until told to stop."""
    worker = Worker(job)
    if job.is_async:
        asyncio.run(worker.run_async())
    else:
        worker.run()
    sys.stderr.flush()
