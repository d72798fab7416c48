"""Every schedule of a few calls through the protocol, against a store held in plain data.

A world is a store, a clock, and calls that each wait at a wish. A schedule is a list of choices: which call's wish is
carried out next, and which fault strikes. Worlds are rebuilt from their schedule, since generators can't be copied; two
schedules that gave each call the same answers and left the same store have the same future, so it is explored once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from retrysafe.answers import AnswerCodec
from retrysafe.call import begin_call
from retrysafe.persistence.datarecord import INPROGRESS, DataRecord
from retrysafe.plan import Plan
from retrysafe.protocol import idempotent_call
from retrysafe.testing.clock import ManualClock
from retrysafe.wishes import (
    Claim,
    Complete,
    Fetch,
    Invoke,
    Lost,
    Pause,
    Raised,
    Release,
    Returned,
    StoreFailed,
)

if TYPE_CHECKING:
    from retrysafe.config import IdempotencyConfig

LEASE_SECONDS = 30
Choice = tuple[str, int]


@dataclass
class Actor:
    """One call on its way."""

    name: int
    flow: Any
    op: Any = None
    history: list[Any] = field(default_factory=list)
    end: Any = None
    crashed: bool = False
    running: bool = False
    runs: int = 0
    lapsed: bool = False
    holds: bool = False

    @property
    def over(self) -> bool:
        return self.crashed or self.end is not None


class World:
    """The store, the clock and the calls, after a schedule."""

    def __init__(self, calls: int, config: IdempotencyConfig, *, failing: frozenset[int] = frozenset()) -> None:
        self.clock = ManualClock()
        self.store: dict[str, DataRecord] = {}
        self.executions = 0
        self.faults: list[str] = []
        self.failing = failing
        self.begun_late = 0
        plan = Plan(function_name="charge", key_prefix="charge", config=config, codec=AnswerCodec(), clock=self.clock)
        self.actors: list[Actor] = []
        for number in range(calls):
            call = begin_call(plan, {"order": 1})
            assert call is not None
            call.owner = f"owner-{number}"
            actor = Actor(number, idempotent_call(call))
            actor.op = actor.flow.send(None)
            self.actors.append(actor)

    # --- one step --------------------------------------------------------------------------------------------------

    def take(self, choice: Choice) -> None:
        """Carry out one choice."""
        what, number = choice
        if what == "lapse":
            self.faults.append(what)
            self.clock.advance(LEASE_SECONDS + 1)
            for actor in self.actors:
                actor.lapsed = actor.lapsed or actor.holds
            return
        actor = self.actors[number]
        if what == "crash":
            self.faults.append(what)
            actor.flow.close()
            actor.crashed = True
            actor.running = False
        elif what == "run":
            self._step(actor)
        elif what == "reply lost":
            self.faults.append(what)
            self._carry_out(actor.op)
            self._send(actor, StoreFailed(ConnectionError("the reply was lost")))
        elif what == "request lost":
            self.faults.append(what)
            self._send(actor, StoreFailed(ConnectionError("the request was lost")))

    def _step(self, actor: Actor) -> None:
        if isinstance(actor.op, Invoke):
            if not actor.running:
                self.executions += 1
                actor.runs += 1
                actor.running = True
                return
            actor.running = False
            if actor.name in self.failing:
                self._send(actor, Raised(ValueError("declined")))
            else:
                self._send(actor, Returned(f"run {self.executions} by {actor.name}"))
            return
        self._send(actor, self._carry_out(actor.op))

    def _send(self, actor: Actor, answer: Any) -> None:
        actor.history.append(f"{type(actor.op).__name__}: {answer}")
        try:
            actor.op = actor.flow.send(answer)
        except StopIteration as stop:
            actor.op, actor.end = None, stop.value
        if isinstance(actor.op, Invoke):
            actor.holds = True
            self.begun_late += actor.op.claim.lease_over(self.clock.now_ms())

    def _carry_out(self, op: Any) -> Any:  # noqa: PLR0911  # a line of the contract each
        """The reference store: each wish in one step, as the contract says. A pause takes a second."""
        now = self.clock.now_ms()
        if isinstance(op, Pause):
            return 1000.0 + sum("Pause" in answer for actor in self.actors for answer in actor.history)
        if isinstance(op, Fetch):
            return self.store.get(op.idempotency_key)
        record = op.record
        standing = self.store.get(record.idempotency_key)
        ours = standing is not None and standing.owner == record.owner
        if isinstance(op, Claim):
            replaced = record.replaces is not None and standing is not None and standing.same_claim(record.replaces)
            if standing is None or standing.window_over(now) or replaced:
                self.store[record.idempotency_key] = record
                return None
            return standing
        if isinstance(op, Complete):
            if not ours:
                return Lost(standing)
            self.store[record.idempotency_key] = record
            return None
        assert isinstance(op, Release)
        if ours and standing is not None and standing.stored_status == INPROGRESS:
            del self.store[record.idempotency_key]
        return None

    # --- what may come next, and what it is ------------------------------------------------------------------------

    def choices(self, budget: dict[str, int]) -> list[Choice]:
        """Everything that may happen next."""
        alive = [actor for actor in self.actors if not actor.over]
        if not alive:
            return []
        left = {what: count - self.faults.count(what) for what, count in budget.items()}
        found: list[Choice] = [("run", actor.name) for actor in alive]
        if left.get("lapse", 0) > 0 and self.store:
            found.append(("lapse", -1))
        for actor in alive:
            if left.get("crash", 0) > 0:
                found.append(("crash", actor.name))
            if isinstance(actor.op, Claim | Complete | Release | Fetch):
                found += [(what, actor.name) for what in ("reply lost", "request lost") if left.get(what, 0) > 0]
        return found

    def key(self) -> Any:
        """What the future depends on."""
        return (
            self.clock.now_ms(),
            tuple(sorted(self.faults)),
            tuple(repr(record) for record in self.store.values()),
            tuple((a.crashed, a.running, a.lapsed, tuple(a.history)) for a in self.actors),
        )

    def live_runs(self) -> int:
        """How many calls are running at this moment whose lease has not lapsed since they claimed."""
        return sum(actor.running and not actor.lapsed for actor in self.actors)

    def answers(self) -> set[Any]:
        """The distinct answers that callers hold."""
        return {actor.end.value for actor in self.actors if isinstance(actor.end, Returned)}

    def errors(self) -> list[BaseException]:
        """The errors that callers got."""
        return [actor.end.error for actor in self.actors if isinstance(actor.end, Raised)]


def explore(calls: int, config: IdempotencyConfig, budget: dict[str, int], check: Any, **options: Any) -> int:
    """Run every schedule, check every world on the way, and say how many different worlds were seen."""
    seen: set[Any] = set()
    pending: list[tuple[Choice, ...]] = [()]
    while pending:
        schedule = pending.pop()
        world = World(calls, config, **options)
        for choice in schedule:
            world.take(choice)
        key = world.key()
        if key in seen:
            continue
        seen.add(key)
        following = world.choices(budget)
        try:
            check(world, final=not following)
        except AssertionError as error:
            raise AssertionError(f"{error}\nafter the schedule {schedule}") from error
        pending += [(*schedule, choice) for choice in following]
    return len(seen)
