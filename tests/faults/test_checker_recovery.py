"""How long the checker sees keys locked by owners that are gone, in histories written by hand."""

from __future__ import annotations

from faults.checker import check
from faults.history import KILL, SERVER_KILL, STOP
from faults.written import HELD, broken, runs


def died(history):
    """A run that died; its lease is over 1000 ms later."""
    history.call("a", 90).began(91)
    history.fault(KILL, 100, worker="A")


def test_how_long_a_waiting_caller_took_to_get_a_dead_ones_key_is_measured(history):
    died(history)
    history.call("b", 50).began(1250, attempt=2).returned(1251).answered(1252)
    report = check(history.events)
    assert report.violations == []
    assert (report.recoveries, report.worst_recovery_ms, report.worst_recovery_key) == (1, 1150, "key")


def test_a_waiting_caller_that_gets_a_dead_ones_key_too_late_is_found(history):
    died(history)
    history.call("b", 50).began(2150, attempt=2).returned(2151).answered(2152)
    assert broken(history) == ["no key stays locked by the dead"]
    assert broken(history, recovery_slack_ms=1100) == []


def test_a_caller_that_is_refused_too_late_is_found(history):
    died(history)
    history.call("b", 2110).refused(2111, HELD)
    runs(history, "c", 2200)
    assert broken(history) == ["no key stays locked by the dead"]


def test_a_key_that_is_never_freed_is_found(history):
    died(history)
    for at in range(150, 2500, 50):
        history.call(f"b{at}", at).refused(at + 1, HELD)
    assert broken(history) == ["no key stays locked by the dead"]


def test_time_in_which_nobody_asks_does_not_count(history):
    died(history)
    history.call("b", 500).refused(501, HELD)
    history.call("c", 60_000).began(60_001, attempt=2).returned(60_002).answered(60_003)
    report = check(history.events)
    assert report.violations == []
    assert report.worst_recovery_ms == 402  # until the refusal's beginning, and as long as it and the claim took


def test_a_call_that_took_long_and_found_no_record_was_not_locked_out(history):
    died(history)
    history.call("b", 50).began(9000, attempt=1).returned(9001).answered(9002)
    assert broken(history) == []


def test_time_in_which_the_store_is_down_does_not_count(history):
    died(history)
    history.fault(SERVER_KILL, 900, 4000)
    history.call("b", 50).began(4200, attempt=2).returned(4201).answered(4202)
    assert broken(history) == []


def test_a_refusal_by_one_that_lives_is_no_lock_of_the_dead(history):
    history.call("dead", 0)
    history.call("a", 1).began(2).returned(5000).answered(5001)
    history.fault(KILL, 10, worker="DEAD")
    for at in range(100, 4900, 100):
        history.call(f"b{at}", at).refused(at + 1, HELD)
    assert broken(history) == []


def test_a_call_that_is_stopped_and_holds_the_key_is_as_good_as_dead(history):
    history.call("a", 0).began(1)
    history.fault(STOP, 10, 5000, worker="A")
    for at in range(50, 2500, 50):
        history.call(f"b{at}", at).refused(at + 1, HELD)
    assert broken(history) == ["no key stays locked by the dead"]
