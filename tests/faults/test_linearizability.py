"""The search for an order of a key's steps: what has one, what has none, and what it costs."""

from __future__ import annotations

import pytest

from faults.checker import check
from faults.checker_calls import FOREVER, stories_of
from faults.linearizability import UNDECIDED, State, Step, Stuck, What, linearize, steps_of
from faults.written import HELD, LEASE_MS, LOST, STORE, Written


def claim(call, start, end):
    return Step(call, What.CLAIM, start, end)


def complete(call, start, end=None):
    return Step(call, What.COMPLETE, start, FOREVER if end is None else end, f"by {call}", optional=end is None)


def release(call, start):
    return Step(call, What.RELEASE, start, FOREVER, optional=True)


def replay(call, start, end, of):
    return Step(call, What.REPLAY, start, end, f"by {of}")


def held(call, start, end):
    return Step(call, What.HELD, start, end)


def lost(call, start, end):
    return Step(call, What.LOST, start, end)


def stuck(*steps, over=()):
    """Why there is no order, where these calls may lose their claims."""
    return linearize(steps, lambda owner, rival, by: owner in over)


# --- the state machine ------------------------------------------------------------------------------------------------


def test_a_claim_a_completion_and_replays_have_an_order():
    assert stuck(claim("a", 0, 2), complete("a", 3, 5), replay("b", 4, 9, "a"), held("c", 0, 3)) is None


def test_of_two_claims_one_must_have_been_given_up():
    rivals = claim("a", 0, 2), claim("b", 1, 3)
    assert isinstance(stuck(*rivals), Stuck)
    assert stuck(*rivals, over="a") is None
    assert stuck(*rivals, release("a", 2)) is None


def test_a_claim_that_was_taken_over_can_neither_complete_nor_release():
    taken = claim("a", 0, 1), claim("b", 5, 6)
    assert stuck(*taken, complete("a", 7, 8), over="a")
    assert stuck(*taken, release("a", 7), claim("c", 9, 10), over="a")
    assert stuck(*taken, lost("a", 7, 8), over="a") is None


def test_what_is_stuck_says_how_far_any_order_came():
    found = stuck(claim("a", 0, 1), replay("b", 2, 3, "a"))
    assert found == Stuck(State(owner="a"), [replay("b", 2, 3, "a")])
    assert str(found) == "with the record claimed by a, none of these fits: b replays by a"


def test_nobody_loses_a_claim_that_nobody_took():
    assert stuck(claim("a", 0, 1), lost("a", 2, 3))


def test_nothing_is_claimed_after_its_completion():
    assert stuck(claim("a", 0, 1), complete("a", 2, 3), claim("b", 4, 5), over="ab")


def test_a_replay_cannot_come_before_the_completion():
    assert stuck(claim("a", 0, 1), replay("b", 1, 2, "a"), complete("a", 3, 4))
    assert stuck(claim("a", 0, 1), replay("b", 1, 4, "a"), complete("a", 3, 5)) is None


def test_a_refusal_finds_the_key_held():
    assert stuck(held("b", 0, 1), claim("a", 2, 3))
    assert stuck(claim("a", 0, 1), complete("a", 2, 3), held("b", 4, 5))
    assert stuck(claim("a", 0, 1), held("b", 2, 3)) is None


# --- what may have happened -------------------------------------------------------------------------------------------


def test_a_completion_whose_reply_was_lost_may_have_happened_or_not():
    assert stuck(claim("a", 0, 1), complete("a", 2), replay("b", 5, 6, "a")) is None
    assert stuck(claim("a", 0, 1), complete("a", 2), claim("b", 5, 6), complete("b", 7, 8), over="a") is None


def test_it_cannot_have_happened_after_another_claim():
    assert stuck(claim("a", 0, 1), complete("a", 2), claim("b", 5, 6), replay("c", 7, 8, "a"), over="a")


def test_which_of_them_happened_can_be_told_only_by_trying():
    """Only the order a, release, b, c's claim, c's completion explains the replay."""
    steps = [claim(name, 0, 10) for name in "abc"]
    steps += [release("a", 0), complete("b", 0), complete("c", 0), replay("d", 0, 20, "c")]
    assert stuck(*steps, over="b") is None
    assert stuck(*steps)


# --- from calls to steps ----------------------------------------------------------------------------------------------


def steps(history, *, quiet=True):
    stories, _ = stories_of(history.events)
    return [str(step) for step in steps_of(stories["key"].calls, quiet=quiet)]


def test_a_run_is_a_claim_and_an_end_and_a_duplicate_one_look():
    history = Written()
    history.call("a", 0).began(1).returned(2).answered(3)
    history.call("b", 1).refused(2, HELD)
    history.call("c", 4).answered(5, "by a")
    assert steps(history) == ["a claims", 'a completes "by a"', "b finds it held", 'c replays "by a"']


def test_a_call_whose_store_failed_may_have_claimed_so_that_finding_the_key_held_proves_nothing():
    history = Written()
    history.call("a", 0).refused(1, STORE)
    history.call("b", 2).refused(3, HELD)
    history.call("c", 4).began(5).returned(6).refused(7, LOST)
    assert steps(history) == ["c claims"]


@pytest.mark.parametrize(("answered_at", "proof"), [(LEASE_MS // 2 - 1, True), (LEASE_MS // 2, False)])
def test_nor_where_a_call_took_so_long_that_its_claim_may_have_come_too_late_to_begin(answered_at, proof):
    history = Written()
    history.call("a", 0).answered(answered_at, "by c")
    history.call("b", 2).refused(3, HELD)
    history.call("c", 4).began(5).returned(6).answered(7)
    assert ("b finds it held" in steps(history)) is proof


def test_finding_a_key_held_proves_nothing_where_a_fault_struck():
    history = Written()
    history.call("b", 2).refused(3, HELD)
    assert steps(history, quiet=False) == []


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_thousands_of_replays_of_one_key_are_no_burden():
    replays = [replay(f"r{at}", at, at + 1 + at * 37 % 500, "a") for at in range(10, 3000)]
    assert stuck(claim("a", 0, 1), complete("a", 2, 9), *replays) is None


def test_a_crowd_of_dead_callers_is_no_burden():
    """Each may have completed or not, in any order; what they have in common is remembered."""
    dead = [step for at in range(25) for step in (claim(f"d{at}", at, 1000), complete(f"d{at}", 1001))]
    names = {f"d{at}" for at in range(25)}
    assert stuck(*dead, replay("r", 2000, 2001, "d7"), over=names) is None


def test_a_search_that_would_go_on_too_long_says_so():
    rivals = [step for at in range(30) for step in (claim(f"c{at}", 0, 1000), release(f"c{at}", 0))]
    assert linearize([*rivals, replay("r", 0, 1000, "x")], lambda *_: False, limit=100) == UNDECIDED


def test_20_000_calls_are_checked_without_giving_up_on_any_key():
    history = Written()
    for number in range(4_000):
        key, at = f"key-{number}", number
        history.call(f"{number}a", at, key=key).began(at + 1).returned(at + 2).answered(at + 4)
        for duplicate in "bcde":
            history.call(f"{number}{duplicate}", at + 3, key=key).answered(at + 5, f"by {number}a")
    report = check(history.events)
    assert (report.violations, report.undecided, report.calls) == ([], [], 20_000)
