"""What the checker finds fault with, and what it does not, rule by rule, in histories written by hand."""

from __future__ import annotations

import pytest

from faults.checker import check
from faults.checker_report import Options
from faults.history import CLOCK, CUT, FAILOVER, KILL, SERVER_KILL, STOP, TIME_ZONE
from faults.written import ABANDONED, HELD, LOST, STORE, broken, further, runs

# --- answers ----------------------------------------------------------------------------------------------------------


def test_one_run_and_its_replays_are_as_it_should_be(history):
    history.call("a", 0).began(2).returned(6).answered(8)
    history.call("b", 1).refused(3, HELD)
    history.call("c", 4).answered(9, "by a")
    history.call("d", 10).answered(11, "by a")
    report = check(history.events)
    assert report.violations == []
    assert (report.keys, report.calls, report.answers, report.executions) == (1, 4, 3, 1)
    assert report.refusals == {HELD: 1}


def test_two_answers_for_one_key_are_found(history):
    history.fault(CUT, 1, worker="A")
    history.call("a", 0).began(2).returned(1500, lapsed=True).answered(1501)
    history.call("b", 1100).began(1200).returned(1400).answered(1401)
    assert "all callers get the same answer" in broken(history)


def test_an_answer_that_no_run_returned_is_found(history):
    runs(history, "a", 0)
    history.call("b", 10).answered(11, "something else")
    assert "an answer was returned by a run" in broken(history)


def test_an_answer_from_before_its_run_returned_it_is_found(history):
    history.call("b", 0).answered(1, "by a")
    runs(history, "a", 0)
    assert "an answer was returned by a run" in broken(history)


def test_answers_are_the_same_only_if_their_types_are(history):
    history.call("a", 0).began(1).returned(2, 1).answered(3, 1)
    history.call("b", 4).answered(5, True)
    assert "all callers get the same answer" in broken(history)


def test_an_error_must_carry_the_response_of_its_own_run(history):
    history.call("a", 0).began(1).returned(2, "mine").refused(600, STORE, response="another's")
    assert broken(history) == ["an error carries the response of its run"]


# --- runs at the same time --------------------------------------------------------------------------------------------


def test_two_runs_at_the_same_time_are_found(history):
    history.call("a", 0).began(1).returned(10).answered(11)
    history.call("b", 2).began(3).returned(8).refused(9, LOST, response="by b")
    assert broken(history) == ["runs whose lease runs are never concurrent"]


def test_a_run_beside_one_that_was_stopped_past_its_lease_is_in_order(history):
    history.fault(STOP, 5, 1600, worker="A")
    history.call("a", 0).began(1).returned(1605, lapsed=True).refused(1606, LOST, response="by a")
    history.call("b", 900).began(1010, attempt=2).returned(1700).answered(1701)
    assert further(history) == {"stop": 1}


def test_no_stop_lets_a_lease_lapse_before_it_can_be_over(history):
    history.fault(STOP, 5, 1600, worker="A")
    history.call("a", 0).began(1).returned(1605, lapsed=True).refused(1606, LOST, response="by a")
    history.call("b", 100).began(950, attempt=2).returned(1700).answered(1701)
    assert broken(history) == ["runs whose lease runs are never concurrent"]


def test_a_lease_that_the_run_itself_knows_to_be_over_needs_no_fault(history):
    history.call("a", 0).began(1).returned(1605, lapsed=True).refused(1606, LOST, response="by a")
    history.call("b", 900).began(1010, attempt=2).returned(1700).answered(1701)
    assert further(history) == {"lapse": 1}


def test_a_lost_lease_that_nothing_tells_of_is_found(history):
    history.call("a", 0).began(1).returned(2000).refused(2001, LOST, response="by a")
    history.call("b", 900).began(1500).returned(1600).answered(1601)
    assert broken(history) == ["runs whose lease runs are never concurrent"]


def test_a_run_that_began_after_its_claim_was_taken_over_is_in_order(history):
    history.fault(STOP, 1, 1500, worker="A")
    history.call("a", 0).began(1501).returned(1502, lapsed=True).refused(1503, LOST, response="by a")
    runs(history, "b", 1010)
    assert further(history) == {"stop": 1}


# --- further runs -----------------------------------------------------------------------------------------------------


def test_a_second_run_that_nothing_explains_is_found(history):
    history.call("a", 0).began(1).returned(2).refused(3, LOST, response="by a")
    runs(history, "b", 10)
    assert broken(history) == ["a further run is explained"]


def test_a_run_after_one_that_raised_is_in_order(history):
    history.call("a", 0).began(1).raised(2).refused(4, "ValueError")
    runs(history, "b", 3)
    assert further(history) == {"raised": 1}


def test_a_run_after_one_that_died_is_in_order_once_its_lease_can_be_over(history):
    history.call("a", 0).began(1)
    history.fault(KILL, 10, worker="A")
    history.call("b", 20).began(1005, attempt=2).returned(1006).answered(1007)
    assert further(history) == {"crash": 1}


def test_a_run_too_soon_after_one_that_died_is_found(history):
    history.call("a", 0).began(1)
    history.fault(KILL, 10, worker="A")
    runs(history, "b", 20)
    assert broken(history) == ["a further run is explained"]


def test_the_death_of_another_worker_explains_nothing(history):
    history.call("a", 0).began(1).returned(2)
    history.fault(KILL, 10, worker="C")
    runs(history, "b", 2000)
    assert "runs whose lease runs are never concurrent" not in broken(history)
    assert broken(history) == ["a further run is explained"]


def test_a_run_after_one_whose_answer_could_not_be_stored_is_in_order(history):
    history.fault(SERVER_KILL, 2, 1100)
    history.call("a", 0).began(1).returned(5).refused(1010, STORE, response="by a")
    runs(history, "b", 1105)
    assert further(history) == {"answer not stored": 1}


def test_a_run_that_ended_in_time_and_whose_answer_came_too_late_is_followed_by_another(history):
    """The store was slow: its claim and its answer have both taken most of a lease."""
    history.call("a", 0).began(700).returned(800).refused(1500, LOST, response="by a")
    runs(history, "b", 1010)
    assert further(history) == {"lapse": 1}


def test_nobody_takes_over_while_a_lease_is_sure_to_run(history):
    history.fault(CUT, 100, 900, worker="A")
    history.call("a", 0).began(1).returned(1300, lease_until=1900).refused(2500, LOST, response="by a")
    taken = history.call("b", 1000).began(1870)
    assert broken(history) == ["a further run is explained"]
    taken.returned(1890).answered(2600)
    assert broken(history, clock_slack_ms=40) == []


@pytest.mark.parametrize(("renewed", "explained"), [(None, True), (350, True), (700, False)])
def test_a_run_that_is_killed_before_it_can_tell_that_its_lease_lapsed_has_told_of_its_renewals(
    history, renewed, explained
):
    run = history.call("a", 0).began(1)
    if renewed is not None:
        run.renewed(renewed)
    runs(history, "b", 1400)
    history.fault(KILL, 1600, worker="A")
    assert (broken(history) == []) is explained


@pytest.mark.parametrize(("stopped", "explained"), [(300, True), (480, False)])
def test_a_lease_ends_earlier_by_as_much_as_the_clock_that_judges_may_be_off(history, stopped, explained):
    """And no earlier: where a stopped worker has renewed it since, most of it is left in any case."""
    history.fault(STOP, stopped, 1500, worker="A")
    history.call("a", 0).began(1).returned(1600).refused(1601, LOST, response="by a")
    runs(history, "b", 600)
    assert broken(history) == ["runs whose lease runs are never concurrent"]
    assert (broken(history, clock_slack_ms=500) == []) is explained


def test_the_end_of_summer_time_explains_nothing(history):
    history.fault(TIME_ZONE, 2, 3, worker="A")
    history.call("a", 0).began(1).returned(2000).refused(2001, LOST, response="by a")
    runs(history, "b", 1500)
    assert broken(history) == ["runs whose lease runs are never concurrent"]


def test_a_clock_that_was_moved_explains_a_run_only_where_it_judges(history):
    history.call("a", 0).began(1).returned(20).refused(21, LOST, response="by a")
    runs(history, "b", 5)
    history.fault(CLOCK, 4, worker="B")
    assert broken(history) == ["runs whose lease runs are never concurrent"]
    assert further(history, worker_clocks=True) == {"clock moved": 1}


def test_the_machines_own_clock_is_always_believed_to_judge(history):
    history.call("a", 0).began(1).returned(20, lapsed=True).refused(21, LOST, response="by a")
    history.fault(CLOCK, 4)
    runs(history, "b", 5)
    assert further(history) == {"clock moved": 1}


def test_a_call_that_runs_its_function_twice_is_found(history):
    call = history.call("a", 0).began(1)
    call.began(2).returned(3).answered(4)
    assert broken(history) == ["a call runs its function once"]
    assert check(history.events).executions == 2


# --- where a person decides -------------------------------------------------------------------------------------------


def test_where_a_person_decides_a_second_run_is_found_whatever_happened(history):
    history.call("a", 0, on_abandoned="raise").began(1)
    history.fault(KILL, 10, worker="A")
    runs(history, "b", 5000, on_abandoned="raise")
    assert broken(history) == ['on_abandoned="raise" runs nothing again']


def test_where_a_person_decides_a_run_that_raised_is_followed_by_another(history):
    history.call("a", 0, on_abandoned="raise").began(1).raised(2).refused(3, "ValueError")
    runs(history, "b", 5, on_abandoned="raise")
    assert further(history) == {"raised": 1}


def test_where_a_person_decides_a_key_may_stay_locked(history):
    history.call("a", 0, on_abandoned="raise").began(1)
    history.fault(KILL, 10, worker="A")
    for at in range(1100, 9000, 100):
        history.call(f"b{at}", at, on_abandoned="raise").refused(at + 1, ABANDONED)
    assert further(history) == {}


# --- what was acknowledged --------------------------------------------------------------------------------------------


def test_a_run_that_was_called_after_an_answer_is_found(history):
    runs(history, "a", 0)
    runs(history, "b", 2000)
    assert "what was acknowledged is not forgotten" in broken(history)


def test_an_answer_counts_whoever_was_given_it(history):
    history.call("a", 0).began(1).returned(2)
    history.call("b", 3).answered(5, "by a")
    history.fault(KILL, 6, worker="A")
    history.call("c", 1500).began(1501).returned(1502).refused(2100, STORE, response="by c")
    assert broken(history) == ["what was acknowledged is not forgotten"]


def test_a_run_that_was_called_before_an_answer_and_began_after_it_is_found(history):
    history.call("b", 0).began(10).returned(11).refused(12, LOST, response="by b")
    history.call("a", 1).began(2).returned(3).answered(4)
    assert "what was acknowledged is not forgotten" in broken(history)


@pytest.mark.parametrize("error", [HELD, ABANDONED])
def test_a_caller_that_is_told_after_an_answer_that_the_key_is_held_is_found(history, error):
    runs(history, "a", 0)
    history.fault(CUT, 4, 9, worker="B")
    history.call("b", 5).refused(8, error)
    assert broken(history) == ["what was acknowledged is not forgotten"]


def test_what_a_failover_forgets_is_counted_where_replication_is_asynchronous(history):
    runs(history, "a", 0)
    history.fault(FAILOVER, 5, 900)
    runs(history, "b", 1000)
    report = check(history.events, options=Options(forgetful=frozenset({FAILOVER})))
    assert report.violations == []
    assert report.lost_acknowledgements == 1
    assert report.further == {"forgotten in a failover": 1}
    assert "what was acknowledged is not forgotten" in broken(history)


def test_a_failover_does_not_excuse_an_answer_that_no_run_returned(history):
    runs(history, "a", 0)
    history.fault(FAILOVER, 5, 900)
    runs(history, "b", 1000)
    history.call("c", 1010).answered(1011, "something else")
    assert broken(history, forgetful=frozenset({FAILOVER})) == ["an answer was returned by a run"]


def test_a_failover_does_not_excuse_what_was_forgotten_before_it(history):
    runs(history, "a", 0)
    runs(history, "b", 1000)
    history.fault(FAILOVER, 1100, 2000)
    assert "what was acknowledged is not forgotten" in broken(history, forgetful=frozenset({FAILOVER}))


def test_where_replicas_confirm_what_the_run_was_told_is_never_forgotten(history):
    runs(history, "a", 0)
    history.fault(FAILOVER, 5, 900)
    runs(history, "b", 1000)
    assert "what was acknowledged is not forgotten" in broken(history, forgetful=frozenset({FAILOVER}), confirms=True)


def test_where_replicas_confirm_an_answer_read_before_they_did_may_be_forgotten(history):
    history.call("a", 0).began(1).returned(2)
    history.call("b", 3).answered(4, "by a")
    history.fault(FAILOVER, 5, 900)
    history.fault(KILL, 6, worker="A")
    runs(history, "c", 1100)
    assert further(history, forgetful=frozenset({FAILOVER}), confirms=True) == {"forgotten in a failover": 1}


# --- the search -------------------------------------------------------------------------------------------------------


def test_a_replay_that_no_order_of_the_calls_explains_is_found(history):
    """Each rule alone is content: the answer is what a run returned, before; but that run had lost the key by then."""
    history.call("a", 0).began(1).returned(1200, "same", lapsed=True)
    history.fault(KILL, 1500, worker="A")
    history.call("b", 1100).began(1150, attempt=2).returned(1490, "same").answered(1495)
    history.call("c", 1210).answered(1220, "same")
    assert broken(history) == ["some order of the calls obeys the state machine"]


def test_a_violation_shows_the_history_of_its_key(history):
    runs(history, "a", 0)
    runs(history, "b", 2000)
    history.fault(CUT, 1, 4, worker="A")
    runs(history, "c", 0, key="another")
    text = str(check(history.events).violations[0])
    assert "key: what was acknowledged is not forgotten: b began 1998.000 ms after a's answer" in text
    assert "began, attempt 1, owner owner of a" in text
    assert "FAULT cut" in text
    assert "ANSWERED 'by b'" in text
    assert "another" not in text
