"""The leases of a batch: all are renewed together, also those of items that have not run yet. No I/O."""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

from retrysafe.clock import monotonic
from retrysafe.events import logger
from retrysafe.exceptions import IdempotencyLeaseLostError
from retrysafe.heartbeat import SOONER_AFTER_FAILURE

if TYPE_CHECKING:
    from retrysafe._batch.item import Item
    from retrysafe._batch.state import Batch
    from retrysafe.execution import Execution
    from retrysafe.persistence.datarecord import DataRecord

Held: TypeAlias = "tuple[Item, DataRecord]"
"""An item, and the claim by which it holds its key."""


class Leases:
    """The leases of a batch, and when they are to be renewed.

    Args:
        batch: The batch.

    Attributes:
        due: When, on the monotonic clock, in seconds.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._running: dict[str, Execution] = {}
        self._began = 0.0
        self._patience = 0.0
        self.due = inf

    @property
    def late_at(self) -> float:
        """When they count as late, on the same clock: an interval after they were due."""
        return self.due + self._patience

    def claimed(self) -> None:
        """Keys were claimed: see that their leases are renewed, where they can be."""
        self._patience = self._interval()
        self.due = min(self.due, monotonic() + self._patience)

    def start(self, execution: Execution) -> Leases:
        """A run is to be told of its lease."""
        self._running[execution.claim.owner or ""] = execution
        return self

    def stop(self, execution: Execution) -> None:
        """Or no longer."""
        self._running.pop(execution.claim.owner or "", None)

    def renewals(self) -> tuple[list[Held], list[DataRecord]]:
        """The items that hold a key, each with its claim, and what renews it."""
        self._began = monotonic()
        held: list[Held] = []
        records: list[DataRecord] = []
        for item in list(self._batch.claimed.values()):
            call, claim = item.call, item.claim
            if call is not None and claim is not None and call.lease.renews and not item.is_lost:
                held.append((item, claim))
                records.append(call.renewal(claim))
        return held, records

    def renewed(self, held: list[Held], records: list[DataRecord], outcomes: list[Any]) -> None:
        """What became of the renewals."""
        failure: BaseException | None = None
        for (item, claim), record, outcome in zip(held, records, outcomes, strict=True):
            if item.claim is not claim:
                continue  # it was claimed anew while the store took its time, and this tells nothing of that claim
            running = self._running.get(record.owner or "")
            if outcome is None:
                item.lease_end_ms = record.in_progress_expiry_timestamp
                if running is not None:
                    running.lease_end_ms = record.in_progress_expiry_timestamp or 0
            elif isinstance(outcome, IdempotencyLeaseLostError):
                item.lost = claim  # or it has been recorded meanwhile, and nobody asks any more
                if running is not None:
                    running.lease_lost = True
            else:
                failure = outcome
        interval = self._interval()
        self.due = self._began + (interval if failure is None else interval / SOONER_AFTER_FAILURE)
        if failure is not None:
            # The log's handlers and filters are the user's; all renewals depend on this thread, or this task.
            with suppress(BaseException):
                logger().warning("could not renew the leases of a batch, trying again: %s", failure)

    def _interval(self) -> float:
        """Seconds between renewals; without end where nothing is to be renewed."""
        leases = [item.call.lease for item in list(self._batch.claimed.values()) if item.call is not None]
        return min([lease.renewal_seconds for lease in leases if lease.renews], default=inf)
