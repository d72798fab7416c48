"""Whole batches of SQS messages in a real Lambda runtime, on a file and on a table, also where a timeout kills it.

The handler is `lambda_functions/batch_orders.py`.
"""

from __future__ import annotations

import time

import pytest

from support.payments import Gate, Payments, batch, charges, failed, message, start_both
from support.runtime_api import now_ms

FUNCTION = "batch_orders.charge_records"


@pytest.fixture(scope="module", params=[None, "dynoxide"], ids=["sqlite", "dynoxide"])
def payments(request, tmp_path_factory):
    server = request.param and request.getfixturevalue(request.param)
    with Payments(tmp_path_factory.mktemp("payments"), server) as payments:
        start_both(payments["batch_orders.handler"], Gate(tmp_path_factory.mktemp("start") / "gate"))
        yield payments


@pytest.fixture
def queue(payments):
    yield payments["batch_orders.handler"]
    payments.settle()
    print(payments.new_log())  # noqa: T201 - pytest shows it with a failed test


@pytest.fixture
def order(request):
    return lambda name: {"payment_id": f"{name} of {request.node.name}", "amount": 4200}


def test_orders_that_come_twice_are_charged_once_and_only_what_failed_is_reported(payments, queue, order):
    a, b, bad = map(order, ("a", "b", "bad"))
    failing = message(bad | {"before": "fail"})
    first = queue.invoke(batch(message(a), failing, message(b), message(a)), timeout_seconds=30)
    assert first.answer == failed(failing)
    assert charges(payments, a, b, bad) == [1, 1, 0]
    second = queue.invoke(batch(message(bad, received=2), message(a, received=2)), timeout_seconds=30)
    assert second.answer == failed()
    assert charges(payments, a, b, bad) == [1, 1, 1]


def test_after_a_timeout_what_was_charged_before_is_replayed_and_the_rest_is_taken_over(
    payments, queue, order, tmp_path
):
    a, b, c = map(order, "abc")
    gate = Gate(tmp_path / "gate")
    call = queue.start(batch(message(a), message(b | gate.stop("before")), message(c)), timeout_seconds=3)
    gate.wait_reached(call)
    early = message(c, received=2)
    assert queue.invoke(batch(early), timeout_seconds=30).answer == failed(early)  # claimed ahead, until the deadline
    assert call.result().outcome == "timed out"
    held = payments.record(FUNCTION, b["payment_id"])
    while now_ms() <= held.in_progress_expiry_timestamp:
        time.sleep(0.005)
    again = queue.invoke(batch(*(message(each, received=2) for each in (a, b, c))), timeout_seconds=30)
    assert again.answer == failed()
    assert charges(payments, a, b, c) == [1, 1, 1]
    assert [payments.record(FUNCTION, each["payment_id"]).attempt for each in (a, b, c)] == [1, 2, 2]
