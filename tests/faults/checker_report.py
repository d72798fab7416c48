"""What the checker is told, and what it tells: options, violations with the key's readable history, and figures."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from faults.history import Answered, Began, Called, Ended, Fault, Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from faults.history import Event

NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Options:
    """What is true of the store, and how exactly things can be measured.

    Args:
        forgetful: The kinds of faults at which the store may forget what it acknowledged: failovers, where replication
            is asynchronous. What is forgotten then is counted, and no violation.
        confirms: Whether the store lets replicas confirm what it acknowledges to the call that ran: then only what
            nobody else was told may be forgotten, such as an answer that was read before replicas had it.
        worker_clocks: Whether leases are judged by the workers' own clocks, so that a worker whose clock was moved may
            take over what lives. A moved clock of the whole machine (a CLOCK of no worker) is always believed to.
        clock_slack_ms: How far the clock that judges leases may be off against the one of the history.
        settle_ms: How long after a fault a client may still wait for what does not come: its timeouts.
        recovery_slack_ms: How long a key may stay locked beyond the lease of its dead owner.
        search_limit: After how many configurations the search for a linearization of a key is given up.
    """

    forgetful: frozenset[str] = frozenset()
    confirms: bool = False
    worker_clocks: bool = False
    clock_slack_ms: int = 20
    settle_ms: int = 1_500
    recovery_slack_ms: int = 1_000
    search_limit: int = 200_000


@dataclass(frozen=True)
class Violation:
    """A promise that was broken.

    Args:
        rule: Which promise.
        key: The key.
        details: What happened.
        history: Everything of the key, to be read by a person.
    """

    rule: str
    key: str
    details: str
    history: str

    def __str__(self) -> str:
        return f"{self.key}: {self.rule}: {self.details}\n{self.history}"


@dataclass
class Report:
    """What a history comes to.

    Attributes:
        violations: Broken promises.
        keys: How many keys were called.
        calls: How many calls were made.
        answers: How many were answered.
        refusals: The others that ended, by their errors.
        unfinished: How many neither ended nor died.
        executions: How often the function began.
        further: The executions of a key after its first, by why they were due.
        faults: By kind.
        lost_acknowledgements: Keys of which the store forgot something acknowledged, in a fault that allows it.
        undecided: Keys whose search was given up.
        recoveries: How often a key was seen locked by a dead owner and freed again.
        worst_recovery_ms: The longest of these, from the owner's death; None where there is none.
        worst_recovery_key: Whose that was.
    """

    violations: list[Violation] = field(default_factory=list)
    keys: int = 0
    calls: int = 0
    answers: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    unfinished: int = 0
    executions: int = 0
    further: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    lost_acknowledgements: int = 0
    undecided: list[str] = field(default_factory=list)
    recoveries: int = 0
    worst_recovery_ms: float | None = None
    worst_recovery_key: str | None = None


def readable(events: Sequence[Event]) -> str:
    """Events as lines for a person, with milliseconds since the first."""
    if not events:
        return ""
    first = min(event.at for event in events)
    return "\n".join(
        f"  {(event.at - first) / NS_PER_MS:12.3f} ms  {_who(event)}  {_what(event, first)}"
        for event in sorted(events, key=lambda event: event.at)
    )


def _who(event: Event) -> str:
    if isinstance(event, Fault):
        return f"{event.worker or 'the store'}"
    return event.call if event.call.startswith(event.worker) else f"{event.worker} {event.call}"


def _what(event: Event, first: int) -> str:
    match event:
        case Called():
            return f"called, lease {event.lease_ms} ms, on_abandoned={event.on_abandoned!r}"
        case Began():
            return f"began, attempt {event.attempt}, owner {event.owner}"
        case Ended():
            lapsed = ", its lease lapsed" if event.lapsed else ""
            return f"raises {event.error}{lapsed}" if event.error else f"returns {_short(event.value)}{lapsed}"
        case Answered():
            return f"ANSWERED {_short(event.value)}"
        case Refused():
            response = f", with the response {_short(event.response)}" if event.has_response else ""
            return f"refused: {event.error}{response}"
        case Fault():
            return f"FAULT {event.kind}, until {(event.until - first) / NS_PER_MS:.3f} ms"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
