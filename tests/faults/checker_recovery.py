"""How long keys stay locked by owners that are gone: from an owner's end to the next run, as far as callers asked.

An owner is gone when it died, or was stopped, or failed: from then on nothing renews its lease. The key is free for
sure a lease later, but only a caller who asks can tell, so of the time until the next run this counts:

- all of it up to the last refusal: whoever was told that the key is held has seen it locked;
- all of it up to the lease's end, if the caller who then got the key had been waiting for that;
- beyond both, the time in which somebody was asking: a call was under way, and neither it nor the store was struck by a
  fault or still had to find out about one.

Where several calls may have held the key last, it counts from the end of the last of them; and a fault that strikes a
call which may hold the key delays that one's run, so it counts anew from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from faults.checker_calls import FOREVER
from faults.checker_report import NS_PER_MS
from faults.history import CLOCK, KILL, STOP, TIME_ZONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    from faults.checker_calls import Call, Faults, Story
    from faults.checker_reasons import Reasons
    from faults.checker_report import Options

    Spans: TypeAlias = list[tuple[int, int]]

# The errors of a call that found the key held, and so has never held it itself.
HELD = frozenset({"IdempotencyAlreadyInProgressError", "IdempotencyAbandonedError"})


@dataclass(frozen=True, slots=True)
class Recovery:
    """A key, between two owners.

    Args:
        owner: The call that may have held it last.
        lease_ns: How long its lease was.
        took_ns: How long the key was locked after that call's end, as far as anybody could see.
        freed: Whether it was freed in the end, by a run of another call.
    """

    owner: str
    lease_ns: int
    took_ns: int
    freed: bool

    def is_late(self, options: Options) -> bool:
        """Whether it took longer than promised."""
        return self.took_ns > self.lease_ns + options.recovery_slack_ms * NS_PER_MS


def recoveries(story: Story, faults: Faults, reasons: Reasons, options: Options) -> Iterator[Recovery]:
    """Each time that an owner of this key was gone. None where a person decides, or a clock that counts was moved."""
    calls = story.calls
    if any(call.called.on_abandoned == "raise" for call in calls):
        return
    ends = sorted((end, call.called.call, call.lease_ns) for call in calls for end in _ends(call, faults))
    if not ends:
        return
    start, last = calls[0].called.at, max(event.at for call in calls for event in call.events())
    answered_at = min((call.answered.at for call in calls if call.answered is not None), default=FOREVER)
    progress = [(call.began.at, call) for call in story.runs if call.began is not None and call.began.at < answered_at]
    for (until, following), before in zip(
        [*progress, (min(answered_at, last), None)], [start, *(at for at, _ in progress)], strict=True
    ):
        gone = [end for end in ends if before <= end[0] < until]
        if gone and not any(reasons.clocks_moved(call, before, until) for call in calls):
            end, owner, lease_ns = gone[-1]
            took = _locked(story, faults, options, end, end + lease_ns, until, following)
            yield Recovery(owner, lease_ns, took, freed=following is not None)


def _ends(call: Call, faults: Faults) -> Iterator[int]:
    """The moments from which on a call that may hold the key renews its lease no more, or starts anew."""
    refused = call.refused
    if call.began is None and (call.answered is not None or (refused is not None and refused.error in HELD)):
        return
    if call.died:
        yield call.died_at
    elif refused is not None:
        yield refused.at
    for fault in faults.concerning(call.worker, call.called.at, call.over_at):
        if fault.kind == STOP:
            yield fault.at
        elif fault.kind not in (KILL, CLOCK, TIME_ZONE):
            yield fault.until


def _locked(
    story: Story, faults: Faults, options: Options, end: int, lease_end: int, until: int, following: Call | None
) -> int:
    """For how long the key was locked after an owner's end, and before it was given to the following call."""
    held = _merged(span for run in story.runs for span in _holding(run, faults) if span[0] < until)
    came = FOREVER if following is None else following.called.at
    seen = end
    for call in story.calls:
        refused, at = call.refused, call.called.at
        # Who was refused while the following call was on its way may have been refused because of that.
        if refused is None or refused.error not in HELD or call.began is not None or refused.at >= min(came, until):
            continue
        if seen < at and not any(start <= refused.at and at <= stop for start, stop in held):
            seen = at
    if following is not None and following.began is not None and following.began.attempt == 1:
        return seen - end  # it found no record: what took long beyond the last refusal was not a lock
    if came < lease_end < until:
        seen = max(seen, lease_end)
    asked = [span for call in story.calls for span in _asking(call, faults, options, until)]
    return seen - end + _length(_without(_merged(asked), held), seen, until)


def _holding(run: Call, faults: Faults) -> Spans:
    """When this run was alive, and not stopped."""
    assert run.began is not None
    stops = [
        (fault.at, fault.until)
        for fault in faults.striking(run.worker, run.began.at, run.over_at)
        if fault.kind == STOP
    ]
    return _without([(run.began.at, run.over_at)], _merged(stops))


def _asking(call: Call, faults: Faults, options: Options, until: int) -> Spans:
    """When this call was under way, and able to find out."""
    if call.called.at >= until:
        return []
    settle = options.settle_ms * NS_PER_MS
    # A fault that is over by the beginning of the call may still leave the worker with a connection to be given up.
    struck = [
        (fault.at, fault.until + settle)
        for fault in faults.concerning(call.worker, call.called.at - settle, call.over_at)
        if fault.kind not in (CLOCK, TIME_ZONE)
    ]
    return _without([(call.called.at, call.over_at)], _merged(struck))


# --- spans of time, from and until ------------------------------------------------------------------------------------


def _merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """The same time in spans that do not meet, in order."""
    merged: Spans = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], stop)
        else:
            merged.append((start, stop))
    return merged


def _without(spans: Spans, others: Spans) -> Spans:
    """What is in none of the others; both in order."""
    left: Spans = []
    for start, stop in spans:
        at = start
        for other_start, other_stop in others:
            if other_stop <= at:
                continue
            if other_start >= stop:
                break
            if other_start > at:
                left.append((at, other_start))
            at = max(at, other_stop)
        if at < stop:
            left.append((at, stop))
    return left


def _length(spans: Spans, start: int, stop: int) -> int:
    """How much of this time is in the spans."""
    return sum(max(0, min(stop, last) - max(start, first)) for first, last in spans)
