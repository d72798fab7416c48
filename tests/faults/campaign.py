"""One campaign: a store, its workers and the nemesis, from the start to the last word about what happened."""

from __future__ import annotations

import time
from collections import Counter as Tally
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faults import checker
from faults.checker_report import Options, Report
from faults.crew import Crew
from faults.history import FAILOVER, Event, Ledger, Refused, read
from faults.keys import Counter, keys_until
from faults.nemesis import StoreLane, WorkerLane
from faults.plan import OF_CLOCKS, OF_WORKERS
from faults.worker import Job

if TYPE_CHECKING:
    from pathlib import Path

    from faults.store import Store

_POLL_SECONDS = 0.1
# What hangs is found out about after the client's own timeout, and tried once more.
SETTLE_MS = 2_500
# After so many times the planned time it is over, with as much as there is.
_OVERTIME = 3.0

# What a call may be refused with under faults. Anything else is a defect, of the layer or of the campaign.
REFUSALS = frozenset(
    (
        "BodyFailedError",
        "IdempotencyAbandonedError",
        "IdempotencyAlreadyInProgressError",
        "IdempotencyLeaseLostError",
        "IdempotencyPersistenceConnectionError",
        "IdempotencyPersistenceLayerError",
    )
)


@dataclass(frozen=True)
class Size:
    """How large a campaign is to be.

    Args:
        calls: How many calls at least.
        faults: How many faults at least.
        seconds: In how much time, about.
        seed: What decides about the plan.
        slots: How many workers there are at a time, every other one async.
        clocked: How many of them have a clock of their own that is moved, where the store judges.
    """

    calls: int
    faults: int
    seconds: float
    seed: int
    slots: int = 6
    clocked: int = 2


@dataclass(frozen=True)
class Outcome:
    """What happened.

    Attributes:
        store: The store.
        size: What was planned.
        seconds: How long it took.
        directory: Where the history is.
        events: The history.
        log: What workers complained of.
    """

    store: Store
    size: Size
    seconds: float
    directory: Path
    events: list[Event]
    log: str

    @property
    def unexpected(self) -> dict[str, int]:
        """Errors that no fault explains, and how often they came."""
        refused = Tally(event.error for event in self.events if isinstance(event, Refused))
        return {error: count for error, count in refused.items() if error not in REFUSALS}


def run(store: Store, directory: Path, size: Size) -> Outcome:
    """Carry it out on a store that runs; the history stays in the directory, which must be empty.

    Raises:
        WorkerFailedError: A worker ended by itself.
    """
    store.open_slots(size.slots)
    counter = Counter(directory / "calls")
    ledger = Ledger(directory, "nemesis")
    job = Job(
        worker="",
        directory=str(directory),
        store={},
        is_async=False,
        lanes=0,
        lease_seconds=store.lease_seconds,
        seed=size.seed,
        began=0.0,
        calls_per_second=size.calls / size.seconds,
        judged_by_own_clock=store.judged_by_own_clock,
    )
    of_store = max(len(store.faults), round(size.faults * store.share)) if store.faults else 0
    of_workers = size.faults - of_store
    weights = OF_WORKERS | OF_CLOCKS | store.connections
    with Crew(store, job, size.slots, size.clocked) as crew:
        began = crew.begin()
        lanes = (
            WorkerLane(ledger, size.seed, of_workers, size.seconds / of_workers, weights, crew, store),
            StoreLane(ledger, size.seed, of_store, size.seconds / (of_store + 1), store),
        )
        for lane in lanes:
            lane.start()
        try:
            while time.monotonic() < began + size.seconds * _OVERTIME:
                over = [lane.join(_POLL_SECONDS) for lane in lanes]
                if all(over) and counter.value >= size.calls:
                    break
        finally:
            for lane in lanes:
                lane.stop()
        for lane in lanes:
            lane.join()
        crew.end()
        crew.audit(keys_until(counter.value))
        log = crew.logs
    ledger.close()
    seconds = time.monotonic() - began
    return Outcome(store, size, seconds, directory, read(directory), log)


def check(outcome: Outcome, *, recovery_slack_ms: int | None = None) -> Report:
    """What the checker says.

    Args:
        outcome: The campaign.
        recovery_slack_ms: How long a key may stay locked beyond the lease of its dead owner. Default: the store's own.
    """
    store = outcome.store
    options = Options(
        forgetful=frozenset({FAILOVER}) if store.replicated else frozenset(),
        confirms=store.confirms,
        clock_slack_ms=store.clock_slack_ms,
        settle_ms=SETTLE_MS,
        recovery_slack_ms=store.recovery_slack_ms if recovery_slack_ms is None else recovery_slack_ms,
    )
    return checker.check(outcome.events, options=options)
