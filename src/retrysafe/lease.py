"""The lease of a call: how long it may be silent before its key can be taken over."""

from __future__ import annotations

RENEWALS_PER_LEASE = 3


class Lease:
    """How long a run may be silent before its key can be taken over.

    Args:
        length_ms: In milliseconds.
        renews: Whether a heartbeat renews it.
        end_ms: When it ends in any case, however late the claim is made: the end of a Lambda invocation.

    Attributes:
        renewal_seconds: How long after a renewal the next one is due: a third of the lease.
        least_ms: How much of it must be left when the run begins, so that the first renewal comes in time.
    """

    __slots__ = ("end_ms", "least_ms", "length_ms", "renewal_seconds", "renews")

    def __init__(self, length_ms: int, *, renews: bool, end_ms: int | None = None) -> None:
        self.length_ms = length_ms
        self.renews = renews
        self.end_ms = end_ms
        self.renewal_seconds = length_ms / 1000 / RENEWALS_PER_LEASE
        self.least_ms = length_ms // 2 if renews else 0


UNDECIDED = Lease(0, renews=False)
