"""What a call that is torn apart between two wishes still owes to the store: the protocol's own answer, by hand."""

from __future__ import annotations

import pytest

from retrysafe import IdempotencyConfig
from retrysafe.answers import AnswerCodec
from retrysafe.call import begin_call
from retrysafe.owed import interrupted
from retrysafe.pauses import INTERRUPTED_TRIES
from retrysafe.persistence.datarecord import COMPLETED, FAILED, UNAVAILABLE
from retrysafe.plan import Plan
from retrysafe.testing import ManualClock
from retrysafe.wishes import Complete, Fetch, Invoke, Pause, Raised, Release, Returned, StoreFailed, Unstorable

CONFIG = IdempotencyConfig(replay_exceptions=(ValueError,))


def a_call(execution_id=None):
    plan = Plan(function_name="work", key_prefix="work", config=CONFIG, codec=AnswerCodec(), clock=ManualClock())
    return begin_call(plan, 1, execution_id=execution_id)


def torn(call, op, answer=None, told=()):
    """What the store is asked for then, each wish answered as told."""
    flow, asked, answers = interrupted(call, op, answer), [], iter(told)
    try:
        wish = flow.send(None)
        while True:
            asked.append(wish)
            wish = flow.send(next(answers, None))
    except StopIteration:
        return asked


def work(call, came=None, *, has_run=False):
    """The wish to run the function; and what that returned, noted before anything else could happen."""
    op = Invoke(call, call.claim())
    if has_run:
        op.came = came
    return op


def shown(wishes):
    return [each.record.stored_status if isinstance(each, Complete) else type(each).__name__ for each in wishes]


async def later():
    """A function whose coroutine nobody awaits."""


@pytest.mark.parametrize(
    ("answer", "owed"),
    [
        (None, "Release"),
        (Returned(5), COMPLETED),
        (Returned(object()), UNAVAILABLE),
        (Raised(KeyError("no")), "Release"),
        (Raised(ValueError("no")), FAILED),
        (Raised(ValueError("no", object())), UNAVAILABLE),
        (Raised(ValueError("no"), suspended=True), None),
    ],
    ids=["not-run", "answer", "answer-unstorable", "failure", "failure-listed", "failure-unstorable", "suspended"],
)
def test_what_the_work_came_to_is_stored_and_a_key_for_which_nothing_was_done_is_freed(answer, owed):
    call = a_call()
    assert shown(torn(call, work(call), answer)) == [owed] * (owed is not None)


def test_what_the_work_returned_is_stored_though_nobody_was_told_of_it_yet():
    call = a_call()
    (completing,) = torn(call, work(call, 5, has_run=True))
    assert completing.record == call.outcome(call.claim(), COMPLETED, "5")


def test_what_the_work_returned_is_not_stored_where_it_was_refused_as_an_answer():
    """As in a process that was forked off while it ran: the run goes on in the parent."""
    call = a_call()
    assert torn(call, work(call, 5, has_run=True), Raised(RuntimeError(), suspended=True)) == []


def test_a_coroutine_that_the_work_returned_frees_the_key_since_it_has_not_run():
    call, coroutine = a_call(), later()
    assert shown(torn(call, work(call, coroutine, has_run=True))) == ["Release"]
    coroutine.close()


def test_the_key_of_a_durable_execution_stays_unless_its_work_is_done():
    call = a_call("arn:1")
    assert torn(call, work(call)) == []
    assert shown(torn(call, work(call), Returned(5))) == [COMPLETED]


def test_what_was_being_written_is_written_and_a_look_or_a_wait_owes_nothing():
    call = a_call()
    outcome, claim = call.outcome(call.claim(), COMPLETED, "5"), call.claim()
    release, complete = Release(claim), Complete(outcome)
    assert torn(call, release) == [release]
    assert torn(call, complete) == [complete]
    assert torn(call, Pause(1.0, "key", owed=outcome)) == [complete]
    assert torn(call, Pause(1.0, "key")) == torn(call, Fetch("key")) == torn(call, None) == []


def test_it_is_written_in_a_few_tries_where_each_is_interrupted_and_in_one_where_the_store_fails():
    call = a_call()
    op = work(call, 5, has_run=True)
    assert len(torn(call, op, told=[StoreFailed(KeyboardInterrupt())] * 9)) == INTERRUPTED_TRIES
    assert len(torn(call, op, told=[StoreFailed(OSError())])) == 1


def test_an_answer_that_the_store_cannot_take_marks_the_key_as_done_in_one_try():
    call = a_call()
    asked = torn(call, work(call, 5, has_run=True), told=[Unstorable(ValueError())] * 9)
    assert shown(asked) == [COMPLETED, UNAVAILABLE]
