"""Durable executions, run by AWS's own SDK: each is invoked until it ends, and has one record all the while."""

from __future__ import annotations

import json

import pytest
from aws_durable_execution_sdk_python import durable_execution
from aws_durable_execution_sdk_python.config import Duration, StepConfig
from aws_durable_execution_sdk_python.execution import InvocationStatus
from aws_durable_execution_sdk_python.retries import RetryStrategyConfig, create_retry_strategy
from aws_durable_execution_sdk_python_testing.runner import DurableFunctionTestRunner

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent, idempotent_function
from support.dynamodb_support import new_table, sync_layer

ORDER = json.dumps({"order_id": "o1"})
# The invocation ends with each wait, and nothing renews the lease until the next one.
RULES = {"event_key_jmespath": "order_id", "in_progress_expires_after_seconds": 600}


@pytest.fixture(params=["memory", "dynoxide"])
def layer(request):
    if request.param == "memory":
        yield MemoryPersistenceLayer()
        return
    server = request.getfixturevalue(request.param)
    with sync_layer(server, new_table(server)) as made:
        yield made


@pytest.fixture
def runner_of():
    """Makes what runs executions of a handler, with time passing at once."""
    runners = []

    def make(handler):
        runners.append(DurableFunctionTestRunner(handler=durable_execution(handler), poll_interval=0.01))
        return runners[-1]

    yield make
    for runner in runners:
        runner.close()
        runner._scheduler._loop.close()  # which it leaves open


def test_an_execution_goes_on_with_its_own_claim_and_another_one_gets_its_answer(layer, runner_of, events):
    effects = []

    @idempotent(persistence_store=layer, config=IdempotencyConfig(event_hook=events.append, **RULES))
    def handler(event, context):
        charged = context.step(lambda _: effects.append("charge") or 42, name="charge")
        context.wait(Duration.from_seconds(60))
        context.step(lambda _: effects.append("ship"), name="ship")
        return {"charged": charged}

    runner = runner_of(handler)
    for _ in range(2):
        ended = runner.run(ORDER)
        assert (ended.status, json.loads(ended.result)) == (InvocationStatus.SUCCEEDED, {"charged": 42})
    assert effects == ["charge", "ship"]
    assert [event.name for event in events] == ["claimed", "claimed", "completed", "replayed"]


def test_while_it_waits_another_execution_of_the_same_event_is_refused(layer, runner_of):
    effects = []

    @idempotent(persistence_store=layer, config=IdempotencyConfig(**RULES))
    def handler(event, context):
        context.step(lambda _: effects.append("charge"), name="charge")
        return context.create_callback(name="approval").result()

    first, second = runner_of(handler), runner_of(handler)
    running = first.run_async(ORDER)
    approval = first.wait_for_callback(running, name="approval")
    first.pause_execution(running)  # until no invocation of it is under way
    first.resume_execution(running)
    refused = second.run(ORDER, 60)
    assert refused.error.type.endswith("IdempotencyAlreadyInProgressError")
    first.send_callback_success(approval, b'"approved"')
    assert first.wait_for_result(running).status is InvocationStatus.SUCCEEDED
    assert second.run(ORDER).status is InvocationStatus.SUCCEEDED
    assert effects == ["charge"]


def test_it_holds_its_key_also_when_the_invocation_that_it_began_in_is_long_over(runner_of, clock):
    """Nothing renews a lease between two invocations, so the remaining time of one would end while it waits."""
    effects, layer = [], MemoryPersistenceLayer(clock=clock)

    @idempotent(persistence_store=layer, config=IdempotencyConfig(expires_after_seconds=86_400))
    def handler(event, context):
        context.step(lambda _: effects.append("charge"), name="charge")
        for name in ("approval", "shipment"):
            context.create_callback(name=name).result()

    first, second = runner_of(handler), runner_of(handler)
    running = first.run_async(ORDER)
    for name in ("approval", "shipment"):
        callback = first.wait_for_callback(running, name=name)
        first.pause_execution(running)
        first.resume_execution(running)
        clock.advance(80_000)
        assert second.run(ORDER, 60).error.type.endswith("IdempotencyAlreadyInProgressError")
        first.send_callback_success(callback, b"{}")
    assert first.wait_for_result(running).status is InvocationStatus.SUCCEEDED
    assert effects == ["charge"]


def test_an_execution_that_fails_frees_the_key(layer, runner_of):
    effects = []

    @idempotent(persistence_store=layer, config=IdempotencyConfig(**RULES))
    def handler(event, context):
        context.wait(Duration.from_seconds(60))
        effects.append("charge")
        if len(effects) == 1:
            raise ValueError("declined")
        return "charged"

    runner = runner_of(handler)
    assert runner.run(ORDER).error.type.endswith("ValueError")
    assert json.loads(runner.run(ORDER).result) == "charged"


def test_a_step_that_is_tried_again_does_not_repeat_what_is_idempotent_in_it(layer, runner_of):
    charged, tries = [], []

    @idempotent_function(persistence_store=layer, data_keyword_argument="order_id")
    def charge(order_id):
        charged.append(order_id)
        return f"receipt for {order_id}"

    def step(_):
        receipt = charge(order_id="o1")
        tries.append(receipt)
        if len(tries) == 1:
            raise ConnectionError("after the charge")
        return receipt

    def handler(event, context):
        again = create_retry_strategy(RetryStrategyConfig(max_attempts=3))
        return context.step(step, name="charge", config=StepConfig(retry_strategy=again))

    ended = runner_of(handler).run(ORDER)
    assert json.loads(ended.result) == "receipt for o1"
    assert (len(tries), charged) == (2, ["o1"])
