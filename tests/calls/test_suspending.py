"""What a durable execution that suspends itself asks of the store, to keep its key: the protocol's answer, by hand."""

from __future__ import annotations

import pytest

from retrysafe import IdempotencyConfig
from retrysafe.answers import AnswerCodec
from retrysafe.call import begin_call
from retrysafe.persistence.datarecord import COMPLETED
from retrysafe.plan import Plan
from retrysafe.suspending import hold
from retrysafe.testing import ManualClock
from retrysafe.wishes import Claim, Fetch, StoreFailed

WINDOW = 86_400


class SuspendExecution(BaseException):  # as the durable SDK names it
    """How a durable execution ends an invocation that it will continue later."""


class TimedSuspendExecution(SuspendExecution):
    """One kind of it."""


def a_call(**rules):
    config = IdempotencyConfig(expires_after_seconds=WINDOW, **rules)
    plan = Plan(function_name="work", key_prefix="work", config=config, codec=AnswerCodec(), clock=ManualClock())
    return begin_call(plan, 1, execution_id="arn:1")


def asked_by(call, found, error=None):
    """What the store is asked for, where this stands in it."""
    flow, asked = hold(call, SuspendExecution() if error is None else error), []
    try:
        asked.append(flow.send(None))
        asked.append(flow.send(found))
        flow.send(None)
    except StopIteration:
        return asked


@pytest.mark.parametrize("kind", [SuspendExecution, TimedSuspendExecution])
def test_its_claim_is_moved_on_for_a_window(kind):
    call = a_call()
    standing = call.claim(attempt=3)
    fetch, claim = asked_by(call, standing, kind())
    assert (type(fetch), fetch.idempotency_key) == (Fetch, call.idempotency_key)
    assert type(claim) is Claim
    assert (claim.record.replaces, claim.record.attempt, claim.record.owner) == (standing, 3, "durable:arn:1")
    assert claim.record.in_progress_expiry_timestamp == call.plan.clock.now_ms() + WINDOW * 1000


def test_what_another_call_took_over_meanwhile_is_left_alone():
    call = a_call()
    assert len(asked_by(call, call.claim().replaced(owner="another"))) == 1


def test_so_is_an_outcome_and_what_cannot_be_read():
    call = a_call()
    outcome = call.outcome(call.claim(), COMPLETED, "5")
    for found in (outcome, None, StoreFailed(OSError())):
        assert len(asked_by(call, found)) == 1


def test_where_the_length_of_the_lease_is_set_it_stays():
    assert asked_by(a_call(in_progress_expires_after_seconds=600), None) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), GeneratorExit()])
def test_what_else_ends_an_invocation_moves_nothing(error):
    assert asked_by(a_call(), None, error) == []
