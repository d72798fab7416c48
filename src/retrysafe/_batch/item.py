"""One item of a batch: its call, how far that has come, and what it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrysafe.call import Call
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.wishes import Ending, Flow, Op

UNANSWERED: Any = object()


class Item:
    """One item.

    Args:
        index: Its place in the batch.
        value: The item itself.
        call: Its call; None where it has no key, and runs without protection.
        ending: Its ending, where it cannot even begin.

    Attributes:
        flow: The course of its call.
        op: What that wishes for; None before it begins.
        answer: What the wish was answered, while the flow is told of it.
        claim: The record that claims its key, once it may run.
        lease_end_ms: End of its lease as last renewed.
        lost: The claim of which a renewal found that its key passed to another call.
        is_anew: Whether it was claimed anew, as its lease had ended before its turn came.
        is_running: Whether its function is under way beside the batch, in a task.
        has_run: Whether its function has ended.
        due: When its pause is over, on the monotonic clock, in seconds; 0 for one that never paused.
        stands: What was last known to stand under its key.
        ending: How it ended; None until then, and where it was left out.
    """

    __slots__ = (
        "answer",
        "call",
        "claim",
        "due",
        "ending",
        "flow",
        "has_run",
        "index",
        "is_anew",
        "is_running",
        "lease_end_ms",
        "lost",
        "op",
        "stands",
        "value",
    )

    flow: Flow[Any]

    def __init__(self, index: int, value: Any, call: Call | None, ending: Ending | None = None) -> None:
        self.index = index
        self.value = value
        self.call = call
        self.op: Op[Any] | None = None
        self.answer = UNANSWERED
        self.claim: DataRecord | None = None
        self.lease_end_ms: int | None = None
        self.lost: DataRecord | None = None
        self.is_anew = False
        self.is_running = False
        self.has_run = False
        self.due = 0.0
        self.stands: DataRecord | None = None
        self.ending = ending

    @property
    def is_lost(self) -> bool:
        """Whether its key passed to another call; one that was claimed anew is not lost with the claim before."""
        return self.lost is not None and self.lost is self.claim

    def may_run(self) -> bool:
        """Whether its claim is still its own, as far as can be told without asking."""
        if self.call is None or self.lease_end_ms is None:
            return True
        if self.is_anew and self.call.lease.end_ms is not None:
            return not self.is_lost  # that of an invocation is not looked at again: a new claim would get no longer one
        return (self.lost is None or not self.is_lost) and self.call.plan.clock.now_ms() <= self.lease_end_ms
