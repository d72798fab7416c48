"""Why a run may have lost its key: what the history must show, before another run of the key is in order.

A run holds its key from its claim, which is made after its call began and before the run did. It loses the key by
raising, or when its lease is over; and a lease is over only when it has not been renewed for as long as it is. So
nobody can have taken it over earlier than a lease after the call began, whatever happened to the run; and that it was
not renewed must show: it died, or it knew by its end, or something had struck it; or its end was not told in time.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from faults.checker_report import NS_PER_MS
from faults.history import CLOCK, KILL, STOP, TIME_ZONE

if TYPE_CHECKING:
    from faults.checker_calls import Call, Faults, Story
    from faults.checker_report import Options
    from faults.history import Fault

LEASE_LOST = "IdempotencyLeaseLostError"

# A lease is renewed each time a third of it is over. With less than half of it gone, nobody has missed a renewal.
_SHORTEST_SILENCE = 0.5
# What at least is left of it when something strikes; less by as much as the clock may be off that judges.
_LEFT_AT_WORST = 2 / 3


class Reason(Enum):
    """Why a key had another run."""

    RAISED = "raised"
    CRASH = "crash"
    STOP = "stop"
    LAPSE = "lapse"
    UNSTORED = "answer not stored"
    CLOCK = "clock moved"
    FORGOTTEN = "forgotten in a failover"


class Reasons:
    """What the history says for a run that lost its key.

    Args:
        faults: What struck.
        options: What is true of the store.
    """

    def __init__(self, faults: Faults, options: Options) -> None:
        self._faults = faults
        self._options = options

    def between(self, first: Call, second: Call) -> Reason | None:
        """Why both calls could run, of which the second began later; None if they could not.

        The second may have claimed the key first: its function then began when that was lost already.
        """
        assert first.began is not None
        assert second.began is not None
        return self.lost(first, second, second.began.at) or (
            self.lost(second, first, first.began.at) if second.called.at < first.began.at else None
        )

    def lost(self, run: Call, rival: Call, by: int) -> Reason | None:
        """Why the run may have lost its key before the rival claimed it, by this moment; None if it may not.

        Args:
            run: The run.
            rival: The call that got the key.
            by: When it had it at the latest.
        """
        if run.answered is None:
            ended = run.ended
            if ended is not None and ended.error is not None and ended.at <= by:
                return Reason.RAISED
            if by >= run.called.at + run.lease_ns - self._options.clock_slack_ms * NS_PER_MS:
                reason = self._lapsed(run, by)
                if reason is not None:
                    return reason
            if self._clock_moved(run, rival, by):
                return Reason.CLOCK
        return Reason.FORGOTTEN if self.claims_may_be_forgotten(run.called.at, by) else None

    def may_be_forgotten(self, start: int, end: int) -> bool:
        """Whether the store may have forgotten between the two what it had acknowledged."""
        kinds = self._options.forgetful
        return bool(kinds) and any(fault.kind in kinds for fault in self._faults.striking(None, start, end))

    def claims_may_be_forgotten(self, start: int, end: int) -> bool:
        """The same for the claims of functions that ran."""
        return not self._options.confirms and self.may_be_forgotten(start, end)

    def clocks_moved(self, call: Call, start: int, end: int) -> bool:
        """Whether a clock by which leases are judged may have been moved between the two."""
        if any(fault.kind == CLOCK for fault in self._faults.striking(None, start, end)):
            return True
        # A worker's clock that was moved stays wrong for as long as the worker lives.
        return self._options.worker_clocks and any(
            fault.kind == CLOCK for fault in self._faults.striking(call.worker, 0, end)
        )

    def touched(self, story: Story) -> bool:
        """Whether any fault struck the key's calls, or the store between them, that a claim or a lease could feel."""
        start, end = story.calls[0].called.at, max(call.over_at for call in story.calls)
        whole = self._faults.striking(None, start, end)
        return any(map(_is_felt, whole)) or any(self._struck(call, call.over_at) for call in story.calls)

    def _clock_moved(self, run: Call, rival: Call, by: int) -> bool:
        start = min(run.called.at, rival.called.at)
        return self.clocks_moved(run, start, by) or self.clocks_moved(rival, start, by)

    def _lapsed(self, run: Call, by: int) -> Reason | None:
        """Why its lease may have been over by this moment, if it has run for a lease by then."""
        ended, refused = run.ended, run.refused
        left = None if ended is None or ended.lapsed else ended.lease_until
        slack = self._options.clock_slack_ms * NS_PER_MS
        if left is not None and by < left - slack:
            return None  # it was sure to be running, whatever struck
        if run.died and run.died_at <= by:
            return Reason.CRASH
        silence = min(int(run.lease_ns * _SHORTEST_SILENCE), int(run.lease_ns * _LEFT_AT_WORST) - slack)
        unstored = run.returned and refused is not None and refused.error != LEASE_LOST
        known = run.died and not self._renewed(run, by) if ended is None else ended.lapsed
        struck = any(by - fault.at >= silence for fault in self._struck(run, by))
        if not known and not struck:
            # Its lease was running at its end, however little was left of it; its answer came too late.
            late = run.returned and ended is not None and by >= ended.at and (run.died or refused is not None)
            if not late:
                return None
        if any(fault.kind == STOP for fault in self._faults.striking(run.worker, run.called.at, by)):
            return Reason.STOP
        return Reason.UNSTORED if unstored else Reason.LAPSE

    def _renewed(self, run: Call, by: int) -> bool:
        """Whether its lease was renewed since a lease before this moment, as far as its worker lived to tell."""
        start = by - run.lease_ns + self._options.clock_slack_ms * NS_PER_MS
        return any(start < since <= by for since in run.renewed)

    def _struck(self, call: Call, until: int) -> list[Fault]:
        return [fault for fault in self._faults.concerning(call.worker, call.called.at, until) if _is_felt(fault)]


def _is_felt(fault: Fault) -> bool:
    """Whether a lease may lapse of it: a dead worker's does for that, and no lease is in local time."""
    return fault.kind not in (KILL, TIME_ZONE)
