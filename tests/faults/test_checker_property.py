"""The checker against a simulated machine: what a right one writes passes; a wrong one, or a changed history, fails."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, assume, find, given, settings
from hypothesis import strategies as st

from faults.checker import check
from faults.history import KILL, STOP, Answered, Began, Called, Ended, Fault, Refused
from faults.simulated import Forgetful, Impatient, Machine, NotAtomic, Store, Stubborn, Unfenced
from faults.written import LOST, STORE

BOUNDED = settings(
    max_examples=300, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
CHANGING = settings(BOUNDED, max_examples=100)
HUNTING = settings(BOUNDED, max_examples=3000, phases=[Phase.generate])

COMMANDS = st.binary(min_size=20, max_size=80)


def history(commands, store=Store, on_abandoned="retry"):
    return Machine(store(), on_abandoned).carry_out(commands)


def rules(events):
    return {violation.rule for violation in check(events).violations}


@given(COMMANDS, st.sampled_from(["retry", "raise"]))
@BOUNDED
def test_what_a_right_machine_does_is_right(commands, on_abandoned):
    report = check(history(commands, on_abandoned=on_abandoned))
    assert not report.violations, report.violations[0]
    assert not report.undecided
    assert not report.unfinished


@pytest.mark.parametrize("sight", ["raised", "crash", "stop", "answer not stored", KILL, STOP, LOST, STORE])
def test_right_machines_are_put_through_everything(sight):
    """Else the property above would say little."""

    def is_seen(commands):
        report = check(history(commands))
        return sight in report.further | report.faults | report.refusals

    find(COMMANDS, is_seen, settings=HUNTING)


@pytest.mark.parametrize(
    ("store", "rule"),
    [
        (Unfenced, "all callers get the same answer"),
        (NotAtomic, "runs whose lease runs are never concurrent"),
        (NotAtomic, "what was acknowledged is not forgotten"),
        (Forgetful, "what was acknowledged is not forgotten"),
        (Impatient, "runs whose lease runs are never concurrent"),
        (Stubborn, "no key stays locked by the dead"),
    ],
)
def test_what_a_wrong_machine_does_is_found(store, rule):
    find(COMMANDS, lambda commands: rule in rules(history(commands, store)), settings=HUNTING)


def test_where_a_person_decides_a_takeover_is_found():
    class Hasty(Store):
        def in_the_way(self, now, *, decided_by_a_person):
            return super().in_the_way(now, decided_by_a_person=False)

    rule = 'on_abandoned="raise" runs nothing again'
    find(COMMANDS, lambda commands: rule in rules(history(commands, Hasty, "raise")), settings=HUNTING)


@given(COMMANDS, st.data())
@CHANGING
def test_a_history_with_another_answer_is_found(commands, data):
    events = history(commands)
    answers = [index for index, event in enumerate(events) if isinstance(event, Answered)]
    assume(answers)
    index = data.draw(st.sampled_from(answers))
    events[index] = replace(events[index], value="another")
    assert rules(events)


@given(COMMANDS)
@CHANGING
def test_a_history_with_one_more_run_after_an_answer_is_found(commands):
    events = history(commands)
    assume(any(isinstance(event, Answered) for event in events))
    at = max(event.at for event in events)
    events += run_of_a_stranger(at + 1_000_000, at + 2_000_000)
    assert rules(events)


@given(COMMANDS, st.data())
@CHANGING
def test_a_history_with_a_run_beside_one_that_nothing_struck_is_found(commands, data):
    events = history(commands)
    struck = {event.worker for event in events if isinstance(event, Fault)}
    ended = {event.call: event for event in events if isinstance(event, Ended) and not event.lapsed}
    answered = {event.call for event in events if isinstance(event, Answered)}
    runs = [
        event
        for event in events
        if isinstance(event, Began) and event.call in answered & ended.keys() and event.worker not in struck
    ]
    assume(runs)
    began = data.draw(st.sampled_from(runs))
    events += run_of_a_stranger(began.at, ended[began.call].at)
    assert rules(events)


def run_of_a_stranger(start, end):
    """A run between the two moments, whose caller was refused its answer."""
    names = "stranger", "stranger-1", "key"
    return [
        Called(start, *names, "retry", 1000),
        Began(start, *names, "stranger", 1),
        Ended(end, *names, "stranger", "by a stranger", None, lapsed=False),
        Refused(end, *names, LOST, has_response=True, response="by a stranger"),
    ]
