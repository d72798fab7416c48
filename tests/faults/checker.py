"""The checker: decides from the history of a campaign, key by key, whether every promise was kept.

1. Every caller that got an answer got the same one, and a run of that key had returned it before. What an error carries
   as the response is what the call's own run returned.
2. A call runs its function once.
3. Runs whose lease never lapsed are never at the same time as another of their key; and each run after a key's first is
   explained: what ran before it raised, died, lost its lease (see `checker_reasons`), and was not answered.
4. Where a person decides (`on_abandoned="raise"`), another run follows only one that raised, which frees its key.
5. Nothing acknowledged is forgotten: once a caller was given the answer, no run claims the key, and nobody is told that
   it is held.
6. No key stays locked longer than its dead owner's lease and a second; see `checker_recovery`.
7. All calls can be put into an order in which they obey the record's state machine; see `linearizability`.

Windows are taken to outlast the campaign. What a history cannot tell is never held against the library: each rule asks
only for what must have happened.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from faults.checker_calls import FOREVER, Faults, Story, stories_of, text_of
from faults.checker_reasons import Reason, Reasons
from faults.checker_recovery import HELD, recoveries
from faults.checker_report import NS_PER_MS, Options, Report, Violation, readable
from faults.linearizability import UNDECIDED, linearize, steps_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from faults.checker_calls import Call
    from faults.history import Event, Fault

_FORGOTTEN = "what was acknowledged is not forgotten"


def check(events: Iterable[Event], *, options: Options | None = None) -> Report:
    """Decide about a whole history.

    Args:
        events: The history, in any order.
        options: What is true of the store. Default: it forgets nothing, and judges leases by its own clock.

    Raises:
        ValueError: It is no history.
    """
    options = options or Options()
    stories, faults = stories_of(events)
    report = Report(keys=len(stories), faults=_counted(faults))
    for story in stories.values():
        _Verdict(story, faults, options, report).give()
    return report


class _Verdict:
    """What is to be said of one key.

    Args:
        story: The key's calls.
        faults: All faults.
        options: What is true of the store.
        report: Where it is said.
    """

    def __init__(self, story: Story, faults: Faults, options: Options, report: Report) -> None:
        self._story = story
        self._faults = faults
        self._options = options
        self._report = report
        self._reasons = Reasons(faults, options)
        # Calls that show that the store has forgotten something, in a fault that allows it.
        self._forgotten: set[str] = set()

    def give(self) -> None:
        """Count what happened, and check every rule."""
        self._count()
        broken = [*self._runs(), *self._held_after_answer(), *self._recovery()]
        self._report.lost_acknowledgements += bool(self._forgotten)
        broken += self._answers()
        # The search says no more than that something is wrong; where a rule says what, that is better.
        if not broken and not self._forgotten:
            broken += self._order()
        for rule, details in broken:
            self._report.violations.append(Violation(rule, self._story.key, details, self._history()))

    def _count(self) -> None:
        report, story = self._report, self._story
        report.calls += len(story.calls)
        report.executions += sum(1 + run.began_again for run in story.runs)
        for call in story.calls:
            if call.answered is not None:
                report.answers += 1
            elif call.refused is not None:
                report.refusals[call.refused.error] += 1
            elif call.died_at == FOREVER:
                report.unfinished += 1

    # --- the rules ----------------------------------------------------------------------------------------------------

    def _answers(self) -> Iterator[tuple[str, str]]:
        given: dict[str, Call] = {}
        for call in self._story.answers:
            assert call.answered is not None
            text = text_of(call.answered.value)
            if not any(_returned(run, text, call.answered.at) for run in self._story.runs):
                yield "an answer was returned by a run", f"{_name(call)} was given {text}, which no run had returned"
            given.setdefault(text, call)
        if len(given) > 1 and not self._forgotten:
            told = ", ".join(f"{_name(call)} was given {text}" for text, call in given.items())
            yield "all callers get the same answer", told
        for run in self._story.runs:
            refused, ended = run.refused, run.ended
            if refused is None or not refused.has_response:
                continue
            if ended is None or text_of(refused.response) != text_of(ended.value):
                told = f"{_name(run)} was told {text_of(refused.response)}, which is not what it returned"
                yield "an error carries the response of its run", told

    def _runs(self) -> Iterator[tuple[str, str]]:
        runs = self._story.runs
        for index, run in enumerate(runs):
            if run.began_again:
                yield "a call runs its function once", f"{_name(run)} began {1 + run.began_again} times"
            broken = self._after_answer(run) or self._after_abandoned(runs[:index], run)
            broken = broken or self._after_others(runs[:index], run)
            if broken is not None:
                yield broken
                # One wrong run makes all that follow wrong, and says nothing more.
                return

    def _after_answer(self, run: Call) -> tuple[str, str] | None:
        """No run begins that claimed the key after a caller was given the answer."""
        answers = self._story.answers
        if not answers:
            return None
        first = answers[0]
        assert first.answered is not None
        assert run.began is not None
        answered_at = first.answered.at
        if run.began.at <= answered_at or run is first:
            return None
        if run.called.at <= answered_at and self._reasons.lost(run, first, answered_at):
            return None  # it had the key before, and lost it before it began
        confirmed = self._options.confirms and any(
            call.began is not None and call.answered is not None and call.answered.at <= run.began.at
            for call in answers
        )
        if not confirmed and self._reasons.may_be_forgotten(answered_at, run.began.at):
            self._forgotten.add(_name(run))
            return None
        late = (run.began.at - answered_at) / NS_PER_MS
        return _FORGOTTEN, f"{_name(run)} began {late:.3f} ms after {_name(first)}'s answer"

    def _held_after_answer(self) -> Iterator[tuple[str, str]]:
        answers = self._story.answers
        if not answers:
            return
        first = answers[0]
        assert first.answered is not None
        for call in self._story.calls:
            refused = call.refused
            if refused is None or refused.error not in HELD or call.called.at <= first.answered.at:
                continue
            if not self._reasons.may_be_forgotten(first.answered.at, refused.at):
                yield _FORGOTTEN, f"{_name(call)} was told after {_name(first)}'s answer that the key is held"
                return
            self._forgotten.add(_name(call))

    def _after_abandoned(self, earlier: list[Call], run: Call) -> tuple[str, str] | None:
        """Where a person decides, nothing else does."""
        assert run.began is not None
        if run.called.on_abandoned != "raise":
            return None
        for before in earlier:
            ended = before.ended
            if ended is not None and ended.error is not None and ended.at <= run.began.at:
                continue
            if self._reasons.claims_may_be_forgotten(before.called.at, run.began.at):
                self._forgotten.add(_name(run))
                continue
            return 'on_abandoned="raise" runs nothing again', f"{_name(run)} began after {_name(before)}"
        return None

    def _after_others(self, earlier: list[Call], run: Call) -> tuple[str, str] | None:
        """Each run before this one had lost the key."""
        reason, forgotten = None, False
        for before in earlier:
            reason = self._reasons.between(before, run)
            forgotten = forgotten or reason is Reason.FORGOTTEN
            if reason is None:
                assert run.began is not None
                if before.run_over_at > run.began.at:
                    return "runs whose lease runs are never concurrent", f"{_name(run)} began during {_name(before)}"
                return "a further run is explained", f"nothing tells why {_name(run)} began after {_name(before)}"
        if forgotten:
            self._forgotten.add(_name(run))
        if _name(run) in self._forgotten:
            reason = Reason.FORGOTTEN
        if reason is not None:
            self._report.further[reason.value] += 1
        return None

    def _recovery(self) -> Iterator[tuple[str, str]]:
        report = self._report
        for recovery in recoveries(self._story, self._faults, self._reasons, self._options):
            took = recovery.took_ns / NS_PER_MS
            if recovery.is_late(self._options):
                yield "no key stays locked by the dead", f"it was locked for {took:.0f} ms after {recovery.owner}'s end"
            elif recovery.freed:
                report.recoveries += 1
                if report.worst_recovery_ms is None or took > report.worst_recovery_ms:
                    report.worst_recovery_ms, report.worst_recovery_key = took, self._story.key

    def _order(self) -> Iterator[tuple[str, str]]:
        calls = {call.called.call: call for call in self._story.calls}
        steps = steps_of(calls.values(), quiet=not self._reasons.touched(self._story))

        def may_take_over(owner: str, rival: str, by: int) -> bool:
            return self._reasons.lost(calls[owner], calls[rival], by) is not None

        stuck = linearize(steps, may_take_over, limit=self._options.search_limit)
        if stuck is UNDECIDED:
            self._report.undecided.append(self._story.key)
        elif stuck is not None:
            yield "some order of the calls obeys the state machine", str(stuck)

    # --- details ------------------------------------------------------------------------------------------------------

    def _history(self) -> str:
        events: list[Event] = [event for call in self._story.calls for event in call.events()]
        start, end = min(event.at for event in events), max(event.at for event in events)
        struck: dict[int, Fault] = {}
        for worker in {None, *(call.worker for call in self._story.calls)}:
            struck |= {id(fault): fault for fault in self._faults.striking(worker, start, end)}
        return readable([*events, *struck.values()])


def _returned(run: Call, text: str, by: int) -> bool:
    return run.returned and run.ended is not None and run.ended.at <= by and text_of(run.ended.value) == text


def _name(call: Call) -> str:
    return call.called.call


def _counted(faults: Faults) -> Counter[str]:
    return Counter(fault.kind for fault in faults.all())
