"""A decorated handler in a real Lambda runtime: charged once, whatever becomes of the invocation.

The runtime is AWS's own client in processes that are killed at the deadline, as in the service. An effect is
a line in a ledger, and all handlers and environments share one store.
"""

import time

import pytest

from support.payments import Gate, Payments, key_of, message
from support.runtime_api import now_ms

# Far more than the way from a handler's start to its claim takes, far less than what tells timeouts apart.
CLAIM_MS = 10_000


# On which store; a test that names none runs on SQLite's.
on_dynamodb_too = pytest.mark.parametrize("payments", [None, "dynoxide"], indirect=True, ids=["sqlite", "dynoxide"])


@pytest.fixture(scope="module")
def payments(request, tmp_path_factory):
    server = getattr(request, "param", None)
    server = server and request.getfixturevalue(server)
    with Payments(tmp_path_factory.mktemp("payments"), server) as payments:
        yield payments


@pytest.fixture(autouse=True)
def _shown_when_failed(payments):
    yield
    payments.settle()
    print(payments.new_log())  # noqa: T201 - pytest shows it with a failed test


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def order(request):
    return {"payment_id": f"p-{request.node.name}", "amount": 4200}


def ends_with(invocation, record):
    """Whether the lease ends with the invocation; not before the deadline, as it may run until then."""
    deadline_ms = invocation.deadline_ms
    return deadline_ms <= record.in_progress_expiry_timestamp < deadline_ms + CLAIM_MS


def wait_until_after(moment_ms):
    """What the clock says decides, not how long this waited."""
    while now_ms() <= moment_ms:
        time.sleep(0.005)


# A payment is charged once


@on_dynamodb_too
def test_a_duplicate_gets_the_first_answer_and_charges_nothing(payments, order):
    first = payments["handler"].invoke(order)
    duplicate = payments["handler"].invoke(order)
    assert first.outcome == duplicate.outcome == "answer"
    assert duplicate.answer == first.answer
    assert payments.charges(order["payment_id"]) == [first.answer]


def test_a_duplicate_in_another_environment_gets_the_first_answer_too(payments, order, gate):
    first = payments["handler"].invoke(order)
    busy = payments["handler"].start(
        order | {"payment_id": order["payment_id"] + "-other"} | gate.stop("before"), timeout_seconds=60
    )
    gate.wait_reached(busy)
    duplicate = payments["handler"].invoke(order)
    gate.open()
    assert duplicate.pid != first.pid == busy.result().pid
    assert duplicate.answer == first.answer
    assert payments.charges(order["payment_id"]) == [first.answer]


@on_dynamodb_too
def test_a_duplicate_while_the_first_runs_is_an_error_and_charges_nothing(payments, order, gate):
    first = payments["handler"].start(order | gate.stop("before"), timeout_seconds=60)
    gate.wait_reached(first)
    duplicate = payments["handler"].invoke(order)
    assert (duplicate.outcome, duplicate.error_type) == ("error", "IdempotencyAlreadyInProgressError")
    assert payments.charges(order["payment_id"]) == []
    gate.open()
    answer = first.result().answer
    assert payments.charges(order["payment_id"]) == [answer]


def test_a_refused_duplicate_is_told_when_the_lease_ends(payments, order, gate):
    runtime = payments["web_handler"]
    first = runtime.start(order | gate.stop("before"), timeout_seconds=60)
    gate.wait_reached(first)
    lease_ms = payments.record("handler", order["payment_id"]).in_progress_expiry_timestamp
    before_ms = now_ms()
    refused = runtime.invoke(order).answer
    after_ms = now_ms()
    assert (refused["status"], refused["key"]) == (409, key_of("handler", order["payment_id"]))
    # To the clock's resolution, and a lease counts to the end of its last millisecond.
    assert before_ms - 2 <= lease_ms - refused["retry_after"] * 1000 <= after_ms + 2
    gate.open()
    assert first.result().answer["status"] == 200


# A run that fails


@on_dynamodb_too
def test_a_handler_that_raises_frees_the_key_and_its_own_error_is_what_lambda_reports(payments, order):
    failed = payments["handler"].invoke(order | {"before": "fail"})
    assert (failed.outcome, failed.error_type) == ("error", "PaymentDeclinedError")
    assert failed.error_message == "declined"
    retry = payments["handler"].invoke(order)
    assert payments.charges(order["payment_id"]) == [retry.answer]


@on_dynamodb_too
def test_a_handler_that_exits_frees_the_key(payments, order):
    stopped = payments["handler"].invoke(order | {"before": "exit"}, timeout_seconds=5.0)
    assert (stopped.outcome, stopped.error_type) == ("error", "Runtime.ExitError")
    retry = payments["handler"].invoke(order)
    assert payments.charges(order["payment_id"]) == [retry.answer]


# A run that is cut off


@on_dynamodb_too
@pytest.mark.parametrize(("place", "charged"), [("before", 0), ("after", 1)])
def test_a_timed_out_payment_is_taken_over_right_after_its_deadline(payments, order, gate, place, charged):
    runtime = payments["handler"]
    call = runtime.start(order | gate.stop(place), timeout_seconds=payments.short_seconds)
    gate.wait_reached(call)
    held = payments.record("handler", order["payment_id"])
    assert (held.status, held.attempt) == ("INPROGRESS", 1)
    invocation = call.result()
    assert invocation.outcome == "timed out"
    assert len(payments.charges(order["payment_id"])) == charged

    assert ends_with(invocation, held)
    wait_until_after(held.in_progress_expiry_timestamp)
    retry = runtime.invoke(order)
    assert retry.outcome == "answer"
    assert len(payments.charges(order["payment_id"])) == charged + 1
    assert payments.charges(order["payment_id"])[-1] == retry.answer
    taken_over = payments.record("handler", order["payment_id"])
    assert (taken_over.status, taken_over.attempt) == ("COMPLETED", 2)
    assert taken_over.owner != held.owner
    assert runtime.invoke(order).answer == retry.answer


def test_the_key_of_a_process_that_died_is_held_until_the_deadline_of_its_invocation(payments, order):
    runtime = payments["web_handler"]
    died = runtime.invoke(order | {"before": "die"}, timeout_seconds=3.0)
    assert (died.outcome, died.error_type) == ("error", "Runtime.ExitError")
    refused = runtime.invoke(order)
    assert refused.answer["status"] == 409
    assert refused.answer["retry_after"] > 0
    assert payments.charges(order["payment_id"]) == []

    held = payments.record("handler", order["payment_id"])
    assert ends_with(died, held)
    wait_until_after(held.in_progress_expiry_timestamp)
    retry = runtime.invoke(order)
    assert payments.charges(order["payment_id"]) == [retry.answer["body"]]
    assert payments.record("handler", order["payment_id"]).attempt == 2


def test_with_on_abandoned_raise_nothing_runs_after_a_death_until_a_person_decides(payments, order):
    runtime = payments["careful_handler"]
    died = runtime.invoke(order | {"after": "die"}, timeout_seconds=1.0)
    held = payments.record("careful_handler", order["payment_id"])
    assert ends_with(died, held)
    wait_until_after(held.in_progress_expiry_timestamp)
    for _ in range(2):
        retry = runtime.invoke(order)
        assert (retry.outcome, retry.error_type) == ("error", "IdempotencyAbandonedError")
    assert len(payments.charges(order["payment_id"])) == 1
    assert payments.record("careful_handler", order["payment_id"]) == held


def test_a_duplicate_that_waits_takes_over_from_a_killed_run_with_a_lease_for_its_own_time(
    payments, order, gate, tmp_path
):
    runtime, own_gate = payments["patient_handler"], Gate(tmp_path / "own")
    runtime.provision()
    killed = runtime.start(order | gate.stop("before"), timeout_seconds=1.0)
    gate.wait_reached(killed)
    held = payments.record("patient_handler", order["payment_id"])
    waiting = runtime.start(order | own_gate.stop("before"), timeout_seconds=60)
    own_gate.wait_reached(waiting)
    taken_over = payments.record("patient_handler", order["payment_id"])
    own_gate.open()
    invocation = waiting.result()
    assert killed.result().outcome == "timed out"
    assert payments.charges(order["payment_id"]) == [invocation.answer]
    assert taken_over.attempt == 2
    assert ends_with(invocation, taken_over)
    # The time it waited is part of its own time, not added to it.
    waited_ms = held.in_progress_expiry_timestamp - (invocation.deadline_ms - 60_000)
    assert taken_over.in_progress_expiry_timestamp - invocation.deadline_ms < waited_ms / 2


# The lease is the invocation's own time


@pytest.mark.parametrize(
    ("handler", "function"),
    [("handler", "handler"), ("batch_handler", "charge_record"), ("async_handler", "charge_async")],
)
def test_in_a_reused_process_the_lease_ends_with_the_deadline_of_each_invocation(
    payments, order, tmp_path, handler, function
):
    pids = set()
    for number, timeout_seconds in enumerate([90, 30, 60]):
        gate = Gate(tmp_path / str(number))
        payment_id = f"{order['payment_id']}-{number}"
        event = order | {"payment_id": payment_id} | gate.stop("before")
        if handler == "batch_handler":
            event = {"Records": [message(event)]}
        call = payments[handler].start(event, timeout_seconds=timeout_seconds)
        gate.wait_reached(call)
        held = payments.record(function, payment_id)
        gate.open()
        assert ends_with(call.result(), held)
        pids.add(call.result().pid)
    assert len(pids) == 1


@pytest.mark.parametrize("over", [False, True])
def test_a_context_registered_by_an_earlier_invocation_says_nothing_about_this_one(payments, order, gate, over):
    runtime = payments["batch_handler"]
    earlier = runtime.invoke(
        {"Records": [message(order | {"payment_id": order["payment_id"] + "-earlier"})]}, timeout_seconds=1.0
    )
    assert earlier.answer == {"batchItemFailures": []}
    if over:
        wait_until_after(earlier.deadline_ms)

    call = runtime.start({"register": False, "Records": [message(order | gate.stop("before"))]}, timeout_seconds=60)
    gate.wait_reached(call)
    wait_until_after(earlier.deadline_ms)
    duplicate = message(order)
    assert runtime.invoke({"register": False, "Records": [duplicate]}).answer == {
        "batchItemFailures": [{"itemIdentifier": duplicate["messageId"]}]
    }
    gate.open()
    assert call.result().answer == {"batchItemFailures": []}
    assert call.result().pid == earlier.pid
    assert len(payments.charges(order["payment_id"])) == 1


# Functions inside a handler


def test_messages_that_come_twice_in_a_batch_or_in_the_next_batch_are_charged_once(payments, order):
    runtime = payments["batch_handler"]
    a, b, c = ({"payment_id": order["payment_id"] + name, "amount": 1} for name in "abc")
    first = runtime.invoke({"Records": [message(a), message(b), message(a)]})
    second = runtime.invoke({"Records": [message(b, received=2), message(c), message(a, received=2)]})
    assert first.answer == second.answer == {"batchItemFailures": []}
    assert [len(payments.charges(each["payment_id"])) for each in (a, b, c)] == [1, 1, 1]


def test_only_the_message_that_failed_is_reported_and_charged_when_it_comes_again(payments, order):
    runtime = payments["batch_handler"]
    good, bad = ({"payment_id": order["payment_id"] + name, "amount": 1} for name in ("good", "bad"))
    failing = message(bad | {"before": "fail"})
    batch = runtime.invoke({"Records": [message(good), failing]})
    assert batch.answer == {"batchItemFailures": [{"itemIdentifier": failing["messageId"]}]}
    again = runtime.invoke({"Records": [message(good, received=2), message(bad, received=2)]})
    assert again.answer == {"batchItemFailures": []}
    assert [len(payments.charges(each["payment_id"])) for each in (good, bad)] == [1, 1]


def test_an_async_function_replays_under_the_event_loop_of_the_next_invocation(payments, order):
    first = payments["async_handler"].invoke(order)
    duplicate = payments["async_handler"].invoke(order)
    assert first.pid == duplicate.pid
    assert duplicate.answer == first.answer
    assert payments.charges(order["payment_id"]) == [first.answer]


def test_an_async_function_is_refused_while_it_runs_in_another_environment(payments, order, gate):
    first = payments["async_handler"].start(order | gate.stop("before"), timeout_seconds=60)
    gate.wait_reached(first)
    duplicate = payments["async_handler"].invoke(order)
    assert (duplicate.outcome, duplicate.error_type) == ("error", "IdempotencyAlreadyInProgressError")
    gate.open()
    answer = first.result().answer
    assert payments.charges(order["payment_id"]) == [answer]


# What is logged


def test_neither_key_nor_payload_nor_answer_is_logged_at_debug_level(payments, order, gate):
    runtime = payments["handler"]
    secret = {"payment_id": "p-7c1d5f", "amount": 918273645, "card": "4111-1111-1111-1111"}
    runtime.invoke(secret | {"before": "fail"})
    first = runtime.start(secret | gate.stop("after"), timeout_seconds=60)
    gate.wait_reached(first)
    refused = runtime.invoke(secret)
    gate.open()
    runtime.invoke(secret)
    authorisation = first.result().answer["authorisation"]

    log = runtime.log()
    assert "charging" in log
    assert "[ERROR] IdempotencyAlreadyInProgressError" in refused.log
    for private in ("p-7c1d5f", "918273645", "4111-1111", authorisation):
        assert private not in log
