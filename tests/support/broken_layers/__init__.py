"""Layers with planted bugs, each as somebody could write it, and the checks that must catch it."""

from __future__ import annotations

from support.broken_layers import calls, records, times  # noqa: F401  # for their share of BUGS
from support.broken_layers.claims import (
    LeaseEndsAMillisecondEarly,
    TakeoverComparesNoLease,
    TakeoverComparesNothing,
    WindowCutsALease,
)
from support.broken_layers.endings import (
    CompletionChecksNoOwner,
    LateCompletionCreatesARecord,
    OutcomesAreReleased,
    OutcomesAreRenewed,
    ReleaseChecksNoOwner,
    RenewalChecksNoOwner,
)
from support.broken_layers.planted import BUGS

__all__ = [
    "BUGS",
    "CompletionChecksNoOwner",
    "LateCompletionCreatesARecord",
    "LeaseEndsAMillisecondEarly",
    "OutcomesAreReleased",
    "OutcomesAreRenewed",
    "ReleaseChecksNoOwner",
    "RenewalChecksNoOwner",
    "TakeoverComparesNoLease",
    "TakeoverComparesNothing",
    "WindowCutsALease",
]
