"""Handlers on Lambda Managed Instances: several processes in one environment, and no process ends with its invocation.

At its deadline the caller gets an error, while the code runs on. So the deadline says nothing of when a run is over.
"""

import time

import pytest

from support.payments import Gate, Payments, message
from support.runtime_api import now_ms


@pytest.fixture
def payments(tmp_path):
    with Payments(tmp_path, workers=2) as payments:
        yield payments


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


def charged_after_all(payments, payment_id):
    """Wait until a run that nobody waits for has charged; its ledger tells."""
    while not payments.charges(payment_id):
        time.sleep(0.005)
    return payments.charges(payment_id)


@pytest.mark.parametrize(("handler", "function"), [("handler", "handler"), ("batch_handler", "charge_record")])
def test_a_run_that_goes_on_after_its_timeout_keeps_its_key(payments, gate, handler, function):
    order = {"payment_id": "p-1", "amount": 4200}

    def event(order):
        return order if handler == "handler" else {"Records": [message(order)]}

    runtime = payments[handler]
    first = runtime.start(event(order | gate.stop("before")), timeout_seconds=1.0)
    gate.wait_reached(first)
    invocation = first.result()
    assert invocation.outcome == "timed out"
    while now_ms() <= invocation.deadline_ms:
        time.sleep(0.005)

    runtime.invoke(event(order))
    assert payments.charges("p-1") == [], "a second run began beside the first"
    held = payments.record(function, "p-1")
    assert (held.status, held.attempt) == ("INPROGRESS", 1)
    gate.open()
    charges = charged_after_all(payments, "p-1")
    while payments.record(function, "p-1").status == "INPROGRESS":
        time.sleep(0.005)
    runtime.invoke(event(order))
    assert payments.charges("p-1") == charges
    assert len(charges) == 1
