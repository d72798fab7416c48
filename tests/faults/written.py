"""Histories as a test writes them: what happened to each call at which millisecond."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faults.checker import check
from faults.checker_report import Options
from faults.history import Answered, Began, Called, Ended, Fault, Refused, Renewed

if TYPE_CHECKING:
    from faults.history import Event

HELD = "IdempotencyAlreadyInProgressError"
LOST = "IdempotencyLeaseLostError"
STORE = "IdempotencyPersistenceLayerError"
ABANDONED = "IdempotencyAbandonedError"

LEASE_MS = 1000


class Written:
    """A history that is being written.

    Attributes:
        events: What it says so far.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def call(self, name: str, at: float, *, key: str = "key", on_abandoned: str = "retry") -> WrittenCall:
        """A call, by a worker of its own that is called as it is in capitals."""
        call = WrittenCall(self.events, name, key)
        self.events.append(Called(_ns(at), call.worker, name, key, on_abandoned, LEASE_MS))
        return call

    def fault(self, kind: str, at: float, until: float | None = None, *, worker: str | None = None) -> None:
        """A fault; of the store, where no worker is named."""
        self.events.append(Fault(_ns(at), _ns(at if until is None else until), kind, worker))


class WrittenCall:
    """One call; each method says what happened to it next."""

    def __init__(self, events: list[Event], name: str, key: str) -> None:
        self._events = events
        self._value: Any = None
        self.worker = name.upper()
        self._names = (self.worker, name, key)

    def began(self, at: float, *, attempt: int = 1) -> WrittenCall:
        self._events.append(Began(_ns(at), *self._names, f"owner of {self._names[1]}", attempt))
        return self

    def renewed(self, at: float) -> WrittenCall:
        self._events.append(Renewed(_ns(at), self.worker, f"owner of {self._names[1]}", _ns(at)))
        return self

    def returned(
        self, at: float, value: Any = None, *, lapsed: bool = False, lease_until: float | None = None
    ) -> WrittenCall:
        self._value = f"by {self._names[1]}" if value is None else value
        return self._ended(at, self._value, None, lapsed=lapsed, lease_until=lease_until)

    def raised(self, at: float) -> WrittenCall:
        return self._ended(at, None, "ValueError")

    def answered(self, at: float, value: Any = None) -> WrittenCall:
        self._events.append(Answered(_ns(at), *self._names, self._value if value is None else value))
        return self

    def refused(self, at: float, error: str, *, response: Any = None) -> WrittenCall:
        self._events.append(Refused(_ns(at), *self._names, error, response is not None, response))
        return self

    def _ended(
        self, at: float, value: Any, error: str | None, *, lapsed: bool = False, lease_until: float | None = None
    ) -> WrittenCall:
        until = None if lease_until is None else _ns(lease_until)
        self._events.append(Ended(_ns(at), *self._names, f"owner of {self._names[1]}", value, error, lapsed, until))
        return self


def runs(history: Written, name: str, at: float, **options: Any) -> None:
    """A call that runs, and is answered."""
    history.call(name, at, **options).began(at + 1).returned(at + 2).answered(at + 3)


def broken(history: Written, **options: Any) -> list[str]:
    """The rules that are broken."""
    return [violation.rule for violation in check(history.events, options=Options(**options)).violations]


def further(history: Written, **options: Any) -> dict[str, int]:
    """How the runs after the first are explained; nothing is broken."""
    report = check(history.events, options=Options(**options))
    assert not report.violations
    return dict(report.further)


def _ns(ms: float) -> int:
    return round(ms * 1_000_000)
