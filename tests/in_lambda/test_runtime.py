"""The tests' own Lambda behaves as the service does: what the other tests rest on."""

import os
import queue
from pathlib import Path

import pytest

from support.lambda_runtime import LambdaRuntime
from support.runtime_api import now_ms

CODE = Path(__file__).parents[1] / "lambda_functions"


@pytest.fixture(scope="module")
def plain():
    with LambdaRuntime(
        "plain.handler",
        code=CODE,
        function_name="plain-function",
        environ={"SETTING": "on"},
        concurrency=2,
    ) as runtime:
        yield runtime


@pytest.fixture(autouse=True)
def _nothing_left_running(plain):
    yield
    plain.settle()


def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_answer_reaches_the_caller_as_json(plain):
    invocation = plain.invoke({})
    assert invocation.outcome == "answer"
    assert invocation.answer["setting"] == "on"
    assert invocation.answer["function_name"] == "plain-function"


def test_the_handler_gets_a_real_context_with_this_invocations_id_arn_and_deadline(plain):
    before_ms = now_ms()
    invocation = plain.invoke({}, timeout_seconds=60)
    answer = invocation.answer
    assert answer["request_id"] == invocation.request_id
    assert answer["arn"].endswith(":function:plain-function")
    assert before_ms + 60_000 <= invocation.deadline_ms <= answer["now_ms"] + 60_000
    assert answer["remaining_ms"] <= invocation.deadline_ms - answer["now_ms"]


def test_invocations_that_follow_each_other_share_a_warm_process(plain):
    first = plain.invoke({})
    second = plain.invoke({})
    assert first.pid == second.pid == second.answer["pid"]
    assert second.answer["number"] == first.answer["number"] + 1
    assert second.request_id != first.request_id


def test_an_exception_reaches_the_caller_with_type_and_message_and_keeps_the_process(plain):
    failed = plain.invoke({"do": "raise", "message": "no such payment"})
    assert (failed.outcome, failed.error_type) == ("error", "LookupError")
    assert failed.error_message == "no such payment"
    assert plain.invoke({}).pid == failed.pid


def test_a_process_that_has_not_answered_at_the_deadline_is_killed_and_replaced(plain):
    invocation = plain.invoke({"do": "hang"}, timeout_seconds=0.2)
    assert invocation.outcome == "timed out"
    assert now_ms() >= invocation.deadline_ms
    assert not lives(invocation.pid)
    after = plain.invoke({})
    assert after.outcome == "answer"
    assert after.pid != invocation.pid
    assert after.answer["number"] == 1


@pytest.mark.parametrize("end", ["exit", "die"])
def test_a_process_that_ends_without_an_answer_is_an_error_and_is_replaced(plain, end):
    invocation = plain.invoke({"do": end}, timeout_seconds=60)
    assert (invocation.outcome, invocation.error_type) == ("error", "Runtime.ExitError")
    assert now_ms() < invocation.deadline_ms
    assert plain.invoke({}).pid != invocation.pid


def test_two_invocations_at_once_run_in_two_environments(plain, tmp_path):
    go = tmp_path / "go"
    first = plain.start({"do": "wait", "for": str(go)}, timeout_seconds=60)
    second = plain.invoke({})
    assert not first.done()
    go.touch()
    assert first.result().outcome == "answer"
    assert first.result().pid != second.pid


def test_more_invocations_than_environments_are_refused(plain, tmp_path):
    for _ in range(2):
        plain.start({"do": "wait", "for": str(tmp_path / "never")}, timeout_seconds=60)
    with pytest.raises(queue.Empty):
        plain.start({})


def test_only_the_process_that_runs_the_invocation_is_killed_at_its_deadline(plain, tmp_path):
    go = tmp_path / "go"
    other = plain.start({"do": "wait", "for": str(go)}, timeout_seconds=60)
    assert plain.invoke({"do": "hang"}, timeout_seconds=0.2).outcome == "timed out"
    go.touch()
    assert other.result().outcome == "answer"


def test_what_a_process_writes_is_told_with_its_invocation(plain):
    number = plain.invoke({}).answer["number"]
    invocation = plain.invoke({"do": "raise", "message": "a message"})
    assert f"invocation {number + 1} of this process\n" in invocation.log
    assert "[ERROR] LookupError: a message" in invocation.log
    assert f"invocation {number} of this process" not in invocation.log
    assert invocation.log in plain.log()


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        ("missing.handler", "Runtime.ImportModuleError"),
        ("plain.missing", "Runtime.HandlerNotFound"),
        ("broken.handler", "RuntimeError"),
    ],
)
def test_a_function_that_cannot_start_is_an_error_with_its_own_type(handler, error):
    with LambdaRuntime(handler, code=CODE) as runtime:
        invocation = runtime.invoke({})
    assert (invocation.outcome, invocation.error_type) == ("error", error)


def test_at_the_end_no_process_is_left():
    with LambdaRuntime("plain.handler", code=CODE, concurrency=2) as runtime:
        idle = runtime.invoke({})
        busy = runtime.start({"do": "hang"}, timeout_seconds=60)
    assert not lives(idle.pid)
    assert not lives(busy.result().pid)
