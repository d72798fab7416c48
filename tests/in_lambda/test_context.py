"""What a Lambda context, plain or durable, means for a lease and for who owns it."""

from __future__ import annotations

import contextvars
import types

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, IdempotencyConfig, idempotent, idempotent_function
from retrysafe.exceptions import IdempotencyAlreadyInProgressError
from retrysafe.persistence.datarecord import INPROGRESS
from support.bodies import counted, only_record, plant


def context(remaining_ms):
    return types.SimpleNamespace(get_remaining_time_in_millis=lambda: remaining_ms, aws_request_id="r")


def durable(remaining_ms, arn, operations=1):
    state = types.SimpleNamespace(operations=dict.fromkeys(range(operations)), durable_execution_arn=arn)
    return types.SimpleNamespace(state=state, lambda_context=context(remaining_ms))


def leases(flavour, layer, clock):
    """A body that notes how long its lease still is."""
    seen = []

    def handler(event, context=None):
        seen.append(only_record(flavour, layer).in_progress_expiry_timestamp - clock.now_ms())
        flavour.inner(layer)._records.clear()
        raise ValueError

    handler.seen = seen
    return handler


def call_all(call, *argument_lists):
    for arguments in argument_lists:
        with pytest.raises(ValueError):  # noqa: PT011  # what the body raises
            call(*arguments)


def test_the_lease_is_the_remaining_time_of_each_invocation(flavour, clock):
    layer = flavour.layer(clock=clock)
    handler = leases(flavour, layer, clock)
    call = flavour.handler(handler, persistence_store=layer)
    call_all(call, ({"id": 1}, context(3000)), ({"id": 1}, context(900)), ({"id": 1}, None), ({"id": 1}, context(0)))
    call_all(call, ({"id": 1}, context(1)))
    assert handler.seen == [3000, 900, 30_000, 30_000, 1]


def test_a_lease_that_the_user_set_comes_before_the_remaining_time(flavour, clock):
    layer = flavour.layer(clock=clock)
    handler = leases(flavour, layer, clock)
    config = IdempotencyConfig(in_progress_expires_after_seconds=5)
    call_all(flavour.handler(handler, persistence_store=layer, config=config), ({"id": 1}, context(900)))
    assert handler.seen == [5000]


def test_a_function_called_inside_a_handler_knows_the_invocation_and_afterwards_no_more(clock):
    from support.flavours import Flavour  # noqa: PLC0415  # sync alone, for the nesting

    flavour = Flavour()
    layer = flavour.layer(clock=clock)
    body = leases(flavour, layer, clock)
    inner = idempotent_function(body, data_keyword_argument="event", persistence_store=layer)

    def handler(event, context):
        inner(event)

    call = flavour.handler(handler, persistence_store=flavour.layer(clock=clock))
    call_all(call, ({"id": 1}, context(3000)))
    call_all(inner, ({"id": 1},))
    assert body.seen == [3000, 30_000]


def test_a_registered_context_gives_the_lease_until_another_trace_begins(flavour, clock, monkeypatch):
    layer = flavour.layer(clock=clock)
    body = leases(flavour, layer, clock)
    config = IdempotencyConfig()
    call = flavour.function(body, data_keyword_argument="event", persistence_store=layer, config=config)
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1")
    config.register_lambda_context(context(700))
    try:
        call_all(call, ({"id": 1},))
        monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=2")
        call_all(call, ({"id": 1},))
    finally:
        config.register_lambda_context(None)
    assert body.seen == [700, 30_000]


def test_a_context_given_to_the_config_gives_the_lease(flavour, clock):
    layer = flavour.layer(clock=clock)
    body = leases(flavour, layer, clock)
    config = IdempotencyConfig(lambda_context=context(1234))
    call_all(
        flavour.function(body, data_keyword_argument="event", persistence_store=layer, config=config), ({"id": 1},)
    )
    assert body.seen == [1234]


def test_a_durable_execution_passes_its_own_running_record_and_nobody_elses(flavour, clock):
    layer = flavour.layer(clock=clock)
    runs = []

    def handler(event, context):
        runs.append(context.state.durable_execution_arn)
        if len(runs) == 1:
            raise SuspendExecution
        return len(runs)

    call = flavour.handler(handler, persistence_store=layer)
    with pytest.raises(SuspendExecution):
        call({"id": 1}, durable(3000, "arn:1"))
    assert only_record(flavour, layer).stored_status == INPROGRESS, "a suspended execution keeps its key"
    with pytest.raises(IdempotencyAlreadyInProgressError):
        call({"id": 1}, durable(3000, "arn:2", operations=3))
    clock.advance(2)
    assert call({"id": 1}, durable(4000, "arn:1", operations=2)) == 2
    assert call({"id": 1}, durable(3000, "arn:2")) == 2
    assert runs == ["arn:1", "arn:1"]


class SuspendExecution(BaseException):  # as the durable SDK names it
    """How a durable execution ends an invocation that it will continue later."""


def test_a_durable_execution_that_is_not_replayed_is_refused_its_own_running_record(flavour, clock):
    layer = flavour.layer(clock=clock)
    charge = counted()
    call = flavour.handler(lambda event, context: charge(event), persistence_store=layer)
    call({"id": 1}, durable(3000, "arn:1"))
    plant(flavour, layer, status=INPROGRESS, in_progress_expiry_timestamp=clock.now_ms() + 2000)
    with pytest.raises(IdempotencyAlreadyInProgressError):
        call({"id": 1}, durable(3000, "arn:1", operations=1))
    assert charge.body.runs == 1


@pytest.mark.parametrize("operations", [1, 2], ids=["begun-anew", "replayed"])
def test_a_durable_execution_whose_lease_is_over_claims_its_record_anew_without_a_takeover(
    flavour, clock, events, operations
):
    layer = flavour.layer(clock=clock)
    charge = counted()
    config = IdempotencyConfig(on_abandoned="raise", event_hook=events.append)
    call = flavour.handler(lambda event, context: charge(event), persistence_store=layer, config=config)
    call({"id": 1}, durable(3000, "arn:1"))
    plant(flavour, layer, status=INPROGRESS, in_progress_expiry_timestamp=clock.now_ms() + 3000)
    clock.advance(60)
    assert call({"id": 1}, durable(3000, "arn:1", operations=operations)) == 2
    assert only_record(flavour, layer).attempt == 1
    assert "taken over" not in [event.name for event in events]


def test_a_durable_execution_without_a_name_knows_no_record_as_its_own(flavour, clock):
    layer = flavour.layer(clock=clock)
    call = flavour.handler(lambda event, context: 1, persistence_store=layer)
    call({"id": 1}, durable(3000, None))
    assert only_record(flavour, layer).owner != "durable:None"
    plant(flavour, layer, status=INPROGRESS, in_progress_expiry_timestamp=clock.now_ms() + 2000)
    with pytest.raises(IdempotencyAlreadyInProgressError):
        call({"id": 1}, durable(3000, None, operations=2))


def test_a_context_with_operations_that_holds_no_lambda_context_is_a_lambda_context_itself(flavour, clock):
    layer = flavour.layer(clock=clock)
    handler = leases(flavour, layer, clock)
    plain = context(700)
    plain.state = durable(0, "arn:1").state
    call_all(flavour.handler(handler, persistence_store=layer), ({"id": 1}, plain))
    assert handler.seen == [700]


def test_a_durable_execution_that_fails_frees_its_key(flavour):
    layer = flavour.layer()
    call = flavour.handler(lambda event, context: 1 / 0, persistence_store=layer)
    with pytest.raises(ZeroDivisionError):
        call({"id": 1}, durable(3000, "arn:1"))
    assert len(flavour.inner(layer)) == 0


def test_an_invocation_that_ends_in_another_context_than_it_began_in_keeps_its_answer():
    class FourMethods(AsyncMemoryPersistenceLayer):
        can_renew = False  # so that it needs no event loop

    class Step:
        def __await__(self):
            yield

    @idempotent(persistence_store=FourMethods())
    async def handler(event, context):
        await Step()
        return "charged"

    invocation = handler({"id": 1}, context(3000))
    contextvars.copy_context().run(invocation.send, None)
    with pytest.raises(StopIteration) as ended:
        contextvars.copy_context().run(invocation.send, None)
    assert ended.value.value == "charged"


@pytest.mark.parametrize("place", ["claim", "listener"])
def test_an_interrupted_replay_of_a_durable_execution_does_not_free_its_key(flavour, clock, place):
    """Earlier invocations of it may have had their effects."""

    class SuspendedError(BaseException):
        pass

    def suspend(event, context):
        raise SuspendedError

    def interrupt(*_):
        raise SuspendedError

    layer = flavour.layer(clock=clock)
    inner = flavour.inner(layer)
    with pytest.raises(SuspendedError):
        flavour.handler(suspend, persistence_store=layer, key_prefix="p")({"id": 1}, durable(3000, "arn:1"))
    if place == "claim":
        inner._put_record = interrupt
    config = IdempotencyConfig(event_hook=interrupt if place == "listener" else None)
    again = flavour.handler(counted(), persistence_store=layer, key_prefix="p", config=config)
    with pytest.raises(SuspendedError):
        again({"id": 1}, durable(3000, "arn:1", operations=2))
    assert only_record(flavour, layer).stored_status == INPROGRESS
