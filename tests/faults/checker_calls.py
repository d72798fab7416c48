"""The history as calls: what became of each, and which faults struck it while it was under way."""

from __future__ import annotations

import bisect
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from faults.history import KILL, Answered, Began, Called, Ended, Fault, Refused, Renewed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from faults.history import Event

FOREVER = 2**63


@dataclass(slots=True, eq=False)
class Call:
    """One call.

    Args:
        called: Its beginning.
        began: Its run's beginning, where it ran.
        ended: Its run's end, where it came to one.
        answered: What its caller was given,
        refused: or the error that its caller got. Neither: it died, or is still under way.
        began_again: How often its function began once more, which it never should.
        died_at: When its worker was killed; FOREVER where it was not.
        renewed: Since when its lease ran anew, each time that it did.
    """

    called: Called
    began: Began | None = None
    ended: Ended | None = None
    answered: Answered | None = None
    refused: Refused | None = None
    began_again: int = 0
    died_at: int = FOREVER
    renewed: list[int] = field(default_factory=list)

    @property
    def worker(self) -> str:
        return self.called.worker

    @property
    def lease_ns(self) -> int:
        return self.called.lease_ms * 1_000_000

    @property
    def died(self) -> bool:
        """Whether it was under way when its worker was killed."""
        return self.answered is None and self.refused is None and self.died_at != FOREVER

    @property
    def over_at(self) -> int:
        """When it was no longer under way."""
        reply = self.answered or self.refused
        return self.died_at if reply is None else reply.at

    @property
    def run_over_at(self) -> int:
        """When its run was over, for one that ran."""
        return self.over_at if self.ended is None else self.ended.at

    @property
    def returned(self) -> bool:
        """Whether its run came to its end with a value."""
        return self.ended is not None and self.ended.error is None

    def events(self) -> Iterator[Event]:
        """What is known of it."""
        for event in (self.called, self.began, self.ended, self.answered, self.refused):
            if event is not None:
                yield event


@dataclass
class Story:
    """All calls of one key, by their beginnings, and those that ran, by the beginnings of their runs."""

    key: str
    calls: list[Call] = field(default_factory=list)
    runs: list[Call] = field(default_factory=list)

    @property
    def answers(self) -> list[Call]:
        """The calls that were answered, by when."""
        found = [call for call in self.calls if call.answered is not None]
        return sorted(found, key=lambda call: call.answered.at)  # type: ignore[union-attr]  # just looked at


class Faults:
    """The faults, found by whom and when they struck."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self._of: defaultdict[str | None, list[Fault]] = defaultdict(list)
        self._died_at: dict[str | None, int] = {}
        for fault in sorted(faults, key=lambda fault: fault.at):
            self._of[fault.worker].append(fault)
            if fault.kind == KILL:
                self._died_at.setdefault(fault.worker, fault.at)
        self._longest = {worker: max(each.until - each.at for each in of) for worker, of in self._of.items()}

    def all(self) -> Iterator[Fault]:
        """All, by whom they struck."""
        for of in self._of.values():
            yield from of

    def died_at(self, worker: str) -> int:
        """When this worker was killed; FOREVER where it was not."""
        return self._died_at.get(worker, FOREVER)

    def striking(self, worker: str | None, start: int, end: int) -> Iterator[Fault]:
        """The faults of this worker, or of the store for None, that went on at any moment between the two."""
        of = self._of.get(worker)
        if of is None:
            return
        earliest = start - self._longest[worker]
        for index in range(bisect.bisect_right(of, end, key=lambda fault: fault.at) - 1, -1, -1):
            fault = of[index]
            if fault.at < earliest:
                return
            if fault.until >= start:
                yield fault

    def concerning(self, worker: str, start: int, end: int) -> Iterator[Fault]:
        """Those of this worker, and those of the store."""
        yield from self.striking(worker, start, end)
        yield from self.striking(None, start, end)


def stories_of(events: Iterable[Event]) -> tuple[dict[str, Story], Faults]:
    """Sort the history by keys and calls.

    Raises:
        ValueError: It is no history: something is told twice, or of a call that was never made.
    """
    faults: list[Fault] = []
    calls: dict[str, Call] = {}
    stories: dict[str, Story] = {}
    renewed: defaultdict[str, list[int]] = defaultdict(list)
    for event in sorted(events, key=lambda event: event.at):
        match event:
            case Fault():
                faults.append(event)
            case Renewed():
                renewed[event.owner].append(event.since)
            case Called():
                if event.call in calls:
                    raise ValueError(f"two calls are named {event.call}")
                calls[event.call] = call = Call(event)
                stories.setdefault(event.key, Story(event.key)).calls.append(call)
            case _:
                if event.call not in calls:
                    raise ValueError(f"{event.call} was never called: {event}")
                _note(calls[event.call], event)
    found = Faults(faults)
    for story in stories.values():
        for call in story.calls:
            call.died_at = found.died_at(call.worker)
            if call.began is not None:
                call.renewed = renewed[call.began.owner]
        story.runs = sorted((call for call in story.calls if call.began), key=_began_at)
    return stories, found


def text_of(value: Any) -> str:
    """A value as text, by which values are compared: 1, 1.0 and true are three."""
    return json.dumps(value, sort_keys=True)


def _began_at(call: Call) -> int:
    return FOREVER if call.began is None else call.began.at


def _note(call: Call, event: Began | Ended | Answered | Refused) -> None:
    if event.key != call.called.key:
        raise ValueError(f"{call.called.call} was called with {call.called.key}: {event}")
    if isinstance(event, Began) and call.began is not None:
        call.began_again += 1
        return
    name = type(event).__name__.lower()
    if getattr(call, name) is not None:
        raise ValueError(f"told twice: {event}")
    setattr(call, name, event)
