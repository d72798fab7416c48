"""Whether all calls of a key can be put into an order in which they obey the record's state machine.

Each call takes effect in at most two atomic steps, each at some moment between two that the history tells: its claim
between the call's beginning and its run's, its end between the run's end and the answer. A replay, and a refusal
because somebody holds the key, look at the record once. What a call that died, or whose store failed, had asked for may
have taken effect at any later moment, or never; such steps are optional, and those that could change nothing are left
out.

    absent ──claim──► claimed ──complete, by its owner──► completed
       ▲                │  ▲ │
       │                │  └─┘ claim, where the history shows why the lease was over
       └────release─────┘ by its owner

The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", Journal of Parallel and Distributed
Computing 17, 1993): take any step that no other one must precede, and see whether the rest can be ordered after it;
with the memory that Lowe added ("Testing for linearizability", Concurrency and Computation 29(4), 2017): the same steps
taken, in whatever order, to the same state have the same future. One key is independent of all others, and a step that
only looks at the record can be taken at once wherever it fits, so few orders are ever tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from faults.checker_calls import FOREVER, text_of
from faults.checker_reasons import LEASE_LOST
from faults.checker_recovery import HELD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeAlias

    from faults.checker_calls import Call

    MayTakeOver: TypeAlias = Callable[[str, str, int], bool]
    """Whether a run may have lost its key to another call by a moment: (its call, the other call, the moment)."""

UNDECIDED: Final = "undecided"
"""The search was given up."""


class What(Enum):
    """What a step does, or must find."""

    CLAIM = "claims"
    COMPLETE = "completes"
    RELEASE = "releases"
    REPLAY = "replays"
    HELD = "finds it held"
    LOST = "finds it lost"


@dataclass(frozen=True, slots=True)
class State:
    """The record: of an owner, who is a call; or with an answer; or, with neither, absent."""

    owner: str | None = None
    answer: str | None = None

    def __str__(self) -> str:
        if self.answer is not None:
            return f"completed with {self.answer}"
        return "absent" if self.owner is None else f"claimed by {self.owner}"


@dataclass(frozen=True, slots=True)
class Step:
    """One atomic step.

    Args:
        call: Whose.
        what: What it does.
        start: Since when it can have happened.
        end: Until when it has happened.
        answer: What it completes with, or replays, as text.
        optional: Whether it may never have happened.
    """

    call: str
    what: What
    start: int
    end: int
    answer: str | None = None
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.call} {self.what.value}" + (f" {self.answer}" if self.answer is not None else "")


@dataclass(frozen=True)
class Stuck:
    """The furthest that any order came: the record then, and the steps of which none fits it."""

    state: State
    left: Sequence[Step]

    def __str__(self) -> str:
        steps = "; ".join(map(str, self.left))
        return f"with the record {self.state}, none of these fits: {steps}"


def steps_of(calls: Iterable[Call], *, quiet: bool) -> list[Step]:
    """What the calls of one key did.

    Args:
        calls: The calls.
        quiet: Whether no fault touched any of them. Otherwise a claim that is not known of may have held the key, so
            that finding it held, or lost, says nothing.
    """
    calls = list(calls)
    quiet = quiet and not any(_may_hold_unseen(call) for call in calls)
    return [
        step for call in calls for step in (_of_run(call, quiet=quiet) if call.began else _of_look(call, quiet=quiet))
    ]


def _may_hold_unseen(call: Call) -> bool:
    """Whether it may have claimed the key, and never began.

    Where its store failed or it died; and where its claim got through so late that it was not begun on, and another
    call was quicker with the next one.
    """
    if call.began is not None:
        return False
    told = call.answered or call.refused
    if told is None or (call.refused is not None and call.refused.error not in HELD):
        return True
    return told.at - call.called.at >= call.lease_ns // 2


def _of_run(call: Call, *, quiet: bool) -> Iterator[Step]:
    name, began, ended = call.called.call, call.began, call.ended
    assert began is not None
    yield Step(name, What.CLAIM, call.called.at, began.at)
    if ended is None:
        # Interrupted without a chance to say so.
        if call.refused is not None:
            yield Step(name, What.RELEASE, began.at, FOREVER, optional=True)
    elif ended.error is not None:
        yield Step(name, What.RELEASE, ended.at, FOREVER, optional=True)
    elif call.answered is not None:
        yield Step(name, What.COMPLETE, ended.at, call.answered.at, text_of(ended.value))
    elif call.refused is None or call.refused.error != LEASE_LOST:
        yield Step(name, What.COMPLETE, ended.at, FOREVER, text_of(ended.value), optional=True)
    elif quiet:
        yield Step(name, What.LOST, ended.at, call.refused.at)


def _of_look(call: Call, *, quiet: bool) -> Iterator[Step]:
    name, start = call.called.call, call.called.at
    if call.answered is not None:
        yield Step(name, What.REPLAY, start, call.answered.at, text_of(call.answered.value))
    elif quiet and call.refused is not None and call.refused.error in HELD:
        yield Step(name, What.HELD, start, call.refused.at)


def linearize(steps: Iterable[Step], may_take_over: MayTakeOver, *, limit: int = 200_000) -> Stuck | str | None:
    """Search for an order.

    Args:
        steps: What was done to one record.
        may_take_over: Whether a claim may follow another one that was not given up.
        limit: After how many configurations to give up.

    Returns:
        None where there is an order; why there is none; UNDECIDED where it was given up.
    """
    return _Search(steps, may_take_over).run(limit)


class _Search:
    """One search; a set of steps is an int, with the bit of each step that is in it.

    Args:
        steps: What was done.
        may_take_over: See `linearize`.
    """

    def __init__(self, steps: Iterable[Step], may_take_over: MayTakeOver) -> None:
        self._steps = sorted(steps, key=lambda step: (step.start, step.end))
        self._needed = sum(1 << index for index, step in enumerate(self._steps) if not step.optional)
        self._may_take_over = may_take_over

    def run(self, limit: int) -> Stuck | str | None:
        """Depth first."""
        pending = [(0, State())]
        seen = set(pending)
        furthest = pending[0]
        while pending:
            taken, state = pending.pop()
            taken, ready = self._look(taken, state)
            if taken & self._needed == self._needed:
                return None
            if (taken & self._needed).bit_count() > (furthest[0] & self._needed).bit_count():
                furthest = taken, state
            # The last is tried first: whatever is optional comes after what must be.
            for index in sorted(ready, key=lambda index: not self._steps[index].optional):
                after = self._after(state, self._steps[index])
                if after is None:
                    continue
                following = taken | 1 << index, after
                if following not in seen:
                    seen.add(following)
                    pending.append(following)
            if len(seen) > limit:
                return UNDECIDED
        taken, state = furthest
        return Stuck(state, [self._steps[index] for index in self._ready(taken)])

    def _look(self, taken: int, state: State) -> tuple[int, list[int]]:
        """Take all steps that only look, and see what they must; and say which of the others are ready."""
        while True:
            ready = self._ready(taken)
            looks = [index for index in ready if self._sees(state, self._steps[index])]
            if not looks:
                return taken, ready
            for index in looks:
                taken |= 1 << index

    def _ready(self, taken: int) -> list[int]:
        """The steps not taken that no other one must precede: those that start before the earliest end of one."""
        ready: list[int] = []
        earliest_end = FOREVER
        first = (~taken & (taken + 1)).bit_length() - 1
        for index in range(first, len(self._steps)):
            step = self._steps[index]
            if step.start > earliest_end:
                break
            if not taken >> index & 1:
                ready.append(index)
                if not step.optional:
                    earliest_end = min(earliest_end, step.end)
        return ready

    def _sees(self, state: State, step: Step) -> bool:
        match step.what:
            case What.REPLAY:
                return state.answer == step.answer
            case What.HELD:
                return state.owner is not None
            case What.LOST:
                return state.owner != step.call
            case _:
                return False

    def _after(self, state: State, step: Step) -> State | None:
        """The record after a step that changes it; None where the state machine does not allow it."""
        owner = state.owner
        match step.what:
            case What.CLAIM if state.answer is None and owner != step.call:
                free = owner is None or self._may_take_over(owner, step.call, step.end)
                return State(owner=step.call) if free else None
            case What.COMPLETE if owner == step.call:
                return State(answer=step.answer)
            case What.RELEASE if owner == step.call:
                return State()
            case _:
                return None
