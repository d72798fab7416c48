"""Batches of SQS messages in a real Lambda runtime: each order is charged once, however often and wherever it comes.

The handler is `lambda_functions/queue_orders.py`: `idempotent_function` under Powertools' own batch processor.
"""

from __future__ import annotations

import time

import pytest

from support.payments import Gate, Payments, batch, charges, failed, message, start_both
from support.runtime_api import now_ms

FUNCTION = "queue_orders.charge_record"
# Far more than the way from a handler's start to its claim takes, far less than the lease without a context.
CLAIM_MS = 10_000


@pytest.fixture(scope="module", params=[None, "dynoxide"], ids=["sqlite", "dynoxide"])
def payments(request, tmp_path_factory):
    server = request.param and request.getfixturevalue(request.param)
    with Payments(tmp_path_factory.mktemp("payments"), server) as payments:
        start_both(payments["queue_orders.handler"], Gate(tmp_path_factory.mktemp("start") / "gate"))
        yield payments


@pytest.fixture
def queue(payments):
    yield payments["queue_orders.handler"]
    payments.settle()
    print(payments.new_log())  # noqa: T201 - pytest shows it with a failed test


@pytest.fixture
def order(request):
    return lambda name: {"payment_id": f"{name} of {request.node.name}", "amount": 4200}


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


def test_orders_that_come_twice_in_a_batch_or_in_the_next_batch_are_charged_once(payments, queue, order):
    a, b, c = map(order, "abc")
    first = queue.invoke(batch(message(a), message(b), message(a)), timeout_seconds=30)
    second = queue.invoke(batch(message(b, received=2), message(c), message(a, received=2)), timeout_seconds=30)
    assert first.answer == second.answer == failed()
    assert charges(payments, a, b, c) == [1, 1, 1]


def test_only_the_message_that_failed_is_reported_and_charged_when_it_comes_again(payments, queue, order):
    good, bad = order("good"), order("bad")
    failing = message(bad | {"before": "fail"})
    assert queue.invoke(batch(message(good), failing), timeout_seconds=30).answer == failed(failing)
    assert charges(payments, good, bad) == [1, 0]
    again = queue.invoke(batch(message(good, received=2), message(bad, received=2)), timeout_seconds=30)
    assert again.answer == failed()
    assert charges(payments, good, bad) == [1, 1]


def test_a_batch_of_which_every_message_failed_fails_as_a_whole_and_so_comes_again(payments, queue, order):
    bad = order("bad")
    invocation = queue.invoke(batch(message(bad | {"before": "fail"})), timeout_seconds=30)
    assert (invocation.outcome, invocation.error_type) == ("error", "BatchProcessingError")
    assert queue.invoke(batch(message(bad, received=2)), timeout_seconds=30).answer == failed()
    assert charges(payments, bad) == [1]


def test_an_order_that_another_process_is_charging_is_reported_and_replayed_when_it_comes_again(
    payments, queue, order, gate
):
    a, b = order("a"), order("b")
    first = queue.start(batch(message(a | gate.stop("before"))), timeout_seconds=60)
    gate.wait_reached(first)
    duplicate = message(a)
    second = queue.invoke(batch(duplicate, message(b)), timeout_seconds=30)
    assert second.answer == failed(duplicate)
    assert charges(payments, a, b) == [0, 1]
    gate.open()
    assert first.result().answer == failed()
    assert first.result().pid != second.pid
    assert queue.invoke(batch(message(a, received=2)), timeout_seconds=30).answer == failed()
    assert charges(payments, a, b) == [1, 1]


@pytest.mark.parametrize(("place", "charged"), [("before", 1), ("after", 2)])
def test_after_a_timeout_only_the_order_under_way_is_taken_over_and_not_before_the_deadline(
    payments, queue, order, gate, place, charged
):
    a, b, other = order("a"), order("b"), order("other")
    call = queue.start(batch(message(a), message(b | gate.stop(place))), timeout_seconds=2)
    gate.wait_reached(call)
    held = payments.record(FUNCTION, b["payment_id"])
    early = message(b, received=2)
    assert queue.invoke(batch(early, message(other)), timeout_seconds=30).answer == failed(early)
    invocation = call.result()
    assert invocation.outcome == "timed out"
    assert 0 <= held.in_progress_expiry_timestamp - invocation.deadline_ms < CLAIM_MS
    while now_ms() <= held.in_progress_expiry_timestamp:
        time.sleep(0.005)
    again = queue.invoke(batch(message(a, received=2), message(b, received=2)), timeout_seconds=30)
    assert again.answer == failed()
    assert charges(payments, a, b, other) == [1, charged, 1]
    assert payments.record(FUNCTION, b["payment_id"]).attempt == 2
