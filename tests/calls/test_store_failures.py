"""What a caller gets when the store fails, and that nothing runs twice for it."""

from __future__ import annotations

import asyncio
import functools
from types import SimpleNamespace

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    DataRecord,
    IdempotencyConfig,
    current_execution,
    idempotent_function,
)
from retrysafe.exceptions import (
    IdempotencyInvalidStatusError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, UNAVAILABLE
from retrysafe.testing import ManualClock
from support.bodies import counted, plant
from support.flavours import Flavour, LikeAStore, MixedFlavour


class FlakyLayer(LikeAStore):
    """Fails one operation so many times, before or after having done it."""

    def __init__(self, operation, times, *, applied=False, error=None):
        super().__init__()
        self.operation, self.times, self.applied = operation, times, applied
        self.error = error or ConnectionError("the network is gone")
        self.calls = []

    def _do(self, operation, argument):
        self.calls.append(operation)
        method = functools.partial(getattr(LikeAStore, operation), self, argument)
        if operation == self.operation and self.times:
            self.times -= 1
            if self.applied:
                method()
            raise self.error
        return method()

    def _get_record(self, idempotency_key):
        return self._do("_get_record", idempotency_key)

    def _put_record(self, data_record):
        self._do("_put_record", data_record)

    def _update_record(self, data_record):
        self._do("_update_record", data_record)

    def _delete_record(self, data_record):
        self._do("_delete_record", data_record)


@pytest.fixture(params=[Flavour(), MixedFlavour()], ids=lambda flavour: flavour.name)
def flavour(request):
    return request.param


LEASE = IdempotencyConfig(in_progress_expires_after_seconds=0.3)


def test_a_claim_whose_reply_was_lost_is_recognised_as_ones_own(flavour):
    layer = FlakyLayer("_put_record", 1, applied=True)
    charge = counted()
    call = flavour.function(charge, persistence_store=layer)
    assert call({"id": 1}) == call({"id": 1}) == 1


def test_a_claim_that_fails_once_is_tried_again(flavour):
    layer = FlakyLayer("_put_record", 1)
    assert flavour.function(counted(), persistence_store=layer)({"id": 1}) == 1


def test_a_store_that_is_down_at_the_claim_is_one_clear_error_and_nothing_runs(flavour):
    charge = counted()
    with pytest.raises(IdempotencyPersistenceLayerError, match="nothing ran") as failed:
        flavour.function(charge, persistence_store=FlakyLayer("_put_record", 99))({"id": 1})
    assert isinstance(failed.value.__cause__, ConnectionError)
    assert charge.body.runs == 0


def test_a_layers_own_clear_error_is_what_the_caller_gets(flavour):
    for error in (IdempotencyPersistenceConnectionError("cannot reach x:1"), IdempotencyPersistenceConfigError("no t")):
        layer = FlakyLayer("_put_record", 99, error=error)
        with pytest.raises(type(error)) as failed:
            flavour.function(counted(), persistence_store=layer)({"id": 1})
        assert failed.value is error
    assert layer.calls == ["_put_record"], "a wrong set-up is not tried again"


@pytest.mark.parametrize("between", [IdempotencyItemNotFoundError, IdempotencyInvalidStatusError])
def test_what_a_layer_has_to_tell_the_protocol_alone_is_a_failure_of_the_store_to_the_caller(flavour, between):
    """As a Powertools layer does that looks at what stands after its SET NX: the record may be gone by then."""
    layer = FlakyLayer("_put_record", 2, error=between("gone"))
    charge = counted()
    with pytest.raises(IdempotencyPersistenceLayerError, match="gone") as failed:
        flavour.function(charge, persistence_store=layer)(1)
    assert type(failed.value.__cause__) is between
    assert charge.body.runs == 0


@pytest.mark.parametrize("applied", [True, False], ids=["reply lost", "request lost"])
def test_a_completion_that_fails_for_a_while_is_tried_until_it_stands(flavour, applied):
    layer = FlakyLayer("_update_record", 3, applied=applied)
    charge = counted()
    call = flavour.function(charge, persistence_store=layer, config=LEASE)
    assert call({"id": 1}) == call({"id": 1}) == 1
    assert layer.calls.count("_update_record") == 4


def test_a_failure_that_is_an_answer_is_tried_until_it_stands_too(flavour):
    layer = FlakyLayer("_update_record", 2)
    charge = counted(error=ValueError("declined"))
    config = IdempotencyConfig(replay_exceptions=(ValueError,))
    call = flavour.function(charge, persistence_store=layer, config=config)
    for _ in range(2):
        with pytest.raises(ValueError, match="declined"):
            call({"id": 1})
    assert charge.body.runs == 1
    assert layer.calls.count("_update_record") == 3


def test_an_outcome_that_is_stored_at_a_later_try_is_told_and_kept_at_hand_as_at_the_first(flavour, events):
    layer = FlakyLayer("_update_record", 1)
    config = IdempotencyConfig(event_hook=events.append, use_local_cache=True)
    call = flavour.function(counted(), persistence_store=layer, config=config)
    assert call({"id": 1}) == call({"id": 1}) == 1
    assert [event.name for event in events] == ["claimed", "completed", "replayed"]
    assert events[-1].from_local_cache


def test_an_answer_that_could_not_be_stored_while_the_lease_ran_comes_with_the_error(flavour):
    charge = counted(answer=None)
    with pytest.raises(IdempotencyPersistenceLayerError, match="could not be stored") as failed:
        flavour.function(charge, persistence_store=FlakyLayer("_update_record", 10**6), config=LEASE)({"id": 1})
    assert failed.value.response == 1
    assert isinstance(failed.value.__cause__, ConnectionError)
    assert charge.body.runs == 1


def test_a_failure_that_could_not_be_stored_as_an_answer_is_what_the_caller_sees_all_the_same(flavour):
    charge = counted(error=ValueError("declined"))
    config = IdempotencyConfig(in_progress_expires_after_seconds=0.3, replay_exceptions=(ValueError,))
    with pytest.raises(ValueError, match="declined"):
        flavour.function(charge, persistence_store=FlakyLayer("_update_record", 10**6), config=config)({"id": 1})
    assert charge.body.runs == 1


def test_a_late_owner_is_told_what_stands_also_where_the_layer_did_not_say(flavour):
    layer = FlakyLayer("_update_record", 1, error=IdempotencyLeaseLostError("lost"))
    charge = counted(during=lambda: plant(flavour, layer, owner="other", attempt=2))
    with pytest.raises(IdempotencyLeaseLostError) as lost:
        flavour.function(charge, persistence_store=layer)({"id": 1})
    assert lost.value.record.owner == "other"
    assert lost.value.response == 1


def test_and_without_a_look_at_the_store_where_the_layer_did_say(flavour):
    standing = DataRecord("key", INPROGRESS, owner="other", shown_as="table key")
    layer = FlakyLayer("_update_record", 1, error=IdempotencyLeaseLostError("lost", record=standing))
    with pytest.raises(IdempotencyLeaseLostError, match="table key") as lost:
        flavour.function(counted(), persistence_store=layer)({"id": 1})
    assert lost.value.record is standing
    assert layer.calls == ["_put_record", "_update_record"]


def test_a_late_owner_has_its_response_also_where_the_store_cannot_tell_what_stands(flavour):
    class DownThen(FlakyLayer):
        def _get_record(self, idempotency_key):
            raise ConnectionError

    layer = DownThen("_update_record", 1, error=IdempotencyLeaseLostError("lost"))
    with pytest.raises(IdempotencyLeaseLostError) as lost:
        flavour.function(counted(), persistence_store=layer)({"id": 1})
    assert (lost.value.record, lost.value.response) == (None, 1)


class SlowLayer(FlakyLayer):
    """Takes no outcome, and 20 seconds for each try."""

    def __init__(self, times=99):
        super().__init__("_update_record", times)
        self.clock = ManualClock()

    def _update_record(self, data_record):
        self.clock.advance(20)
        super()._update_record(data_record)

    def tries_of_an_outcome(self, *, during=None, **options):
        """How often the outcome of a call is tried to be stored."""
        call = idempotent_function(counted(during=during), persistence_store=self, config=IdempotencyConfig(**options))
        with pytest.raises(IdempotencyPersistenceLayerError, match="could not be stored"):
            call({"id": 1})
        return self.calls.count("_update_record")


def test_an_outcome_is_tried_for_half_a_minute_where_the_lease_is_the_whole_window():
    class FourMethods(SlowLayer):
        can_renew = False

    assert FourMethods(5).tries_of_an_outcome() == 3, "the first, and those after 20 and 40 seconds"


LONG_LEASE_S = 100


def renewed_meanwhile():
    """As a heartbeat does."""
    current_execution().lease_end_ms += (LONG_LEASE_S - 30) * 1000


@pytest.mark.parametrize(
    ("options", "during"),
    [
        ({"in_progress_expires_after_seconds": LONG_LEASE_S}, None),
        ({}, renewed_meanwhile),
        ({"lambda_context": SimpleNamespace(get_remaining_time_in_millis=lambda: LONG_LEASE_S * 1000)}, None),
    ],
    ids=["long", "renewed", "invocation"],
)
def test_and_as_long_as_the_lease_where_that_is_another(options, during):
    assert SlowLayer().tries_of_an_outcome(during=during, **options) == LONG_LEASE_S / 20


def test_a_store_that_takes_no_outcome_at_all_ends_with_the_response_in_the_error(flavour):
    layer = FlakyLayer("_update_record", 10**6, error=IdempotencyResponseUnavailableError("read-only"))
    charge = counted()
    with pytest.raises(IdempotencyPersistenceLayerError, match="could not be stored") as failed:
        flavour.function(charge, persistence_store=layer, config=LEASE)({"id": 1})
    assert (failed.value.response, charge.body.runs) == (1, 1)


def test_an_answer_too_large_for_the_store_is_given_once_and_never_run_again(flavour):
    layer = FlakyLayer("_update_record", 1, error=IdempotencyResponseUnavailableError("larger than 400 KB"))
    charge = counted()
    call = flavour.function(charge, persistence_store=layer)
    assert call({"id": 1}) == 1
    with pytest.raises(IdempotencyResponseUnavailableError):
        call({"id": 1})
    assert charge.body.runs == 1
    (record,) = layer._records.values()
    assert record.stored_status == UNAVAILABLE


def test_the_users_own_exception_is_what_the_caller_sees_though_the_release_fails(flavour, events):
    layer = FlakyLayer("_delete_record", 99)
    config = IdempotencyConfig(event_hook=events.append)
    with pytest.raises(ValueError, match="mine"):
        flavour.function(counted(error=ValueError("mine")), persistence_store=layer, config=config)({"id": 1})
    assert (events[-1].name, events[-1].stored, events[-1].error) == ("released", False, "ValueError")


def test_so_is_the_users_own_interruption_though_another_strikes_the_release():
    own = SystemExit(3)
    layer = FlakyLayer("_delete_record", 1, error=KeyboardInterrupt())
    with pytest.raises(SystemExit) as left:
        idempotent_function(counted(error=own), persistence_store=layer)({"id": 1})
    assert left.value is own
    assert len(layer) == 0


@pytest.mark.parametrize(("interruptions", "is_freed"), [(2, True), (99, False)])
def test_what_interrupts_the_release_is_raised_behind_the_users_own_exception_and_the_release_done_again(
    interruptions, is_freed, events
):
    layer = FlakyLayer("_delete_record", interruptions, error=KeyboardInterrupt())
    config = IdempotencyConfig(event_hook=events.append)
    own = ValueError("mine")
    with pytest.raises(KeyboardInterrupt) as interrupted:
        idempotent_function(counted(error=own), persistence_store=layer, config=config)({"id": 1})
    assert interrupted.value.__context__ is own
    assert (events[-1].name, events[-1].stored) == ("released", is_freed)
    assert len(layer) == (0 if is_freed else 1)


def test_an_interruption_during_the_completion_comes_after_the_answer_is_stored():
    layer = FlakyLayer("_update_record", 1, error=KeyboardInterrupt())
    charge = counted()
    call = idempotent_function(charge, persistence_store=layer)
    with pytest.raises(KeyboardInterrupt):
        call({"id": 1})
    (record,) = layer._records.values()
    assert record.stored_status == COMPLETED
    assert call({"id": 1}) == 1


def test_an_interruption_during_the_claim_leaves_no_claim_behind():
    layer = FlakyLayer("_put_record", 1, applied=True, error=KeyboardInterrupt())
    charge = counted()
    with pytest.raises(KeyboardInterrupt):
        idempotent_function(charge, persistence_store=layer)({"id": 1})
    assert len(layer) == charge.body.runs == 0
    assert layer.calls == ["_put_record", "_delete_record"]


class Failing(LikeAStore):
    """Fails one operation with these errors, one after the other; with the one that is applied when it has done it."""

    def __init__(self, operation, *errors, applied=None):
        super().__init__()
        self.errors = list(errors)
        setattr(self, operation, functools.partial(self._do, getattr(self, operation), applied))

    def _do(self, method, applied, record):
        error = self.errors.pop(0) if self.errors else None
        if error in (None, applied):
            method(record)
        if error is not None:
            raise error


def statuses(layer):
    return [record.stored_status for record in layer._records.values()]


def test_nor_does_one_during_the_claim_that_is_made_again():
    interruption = KeyboardInterrupt()
    layer = Failing("_put_record", ConnectionError("gone"), interruption, applied=interruption)
    charge = counted()
    with pytest.raises(KeyboardInterrupt):
        idempotent_function(charge, persistence_store=layer)({"id": 1})
    assert (statuses(layer), charge.body.runs) == ([], 0)


def test_a_completion_that_was_interrupted_is_tried_again_also_where_the_store_fails_then():
    layer = Failing("_update_record", KeyboardInterrupt(), ConnectionError("the interruption cost the connection"))
    with pytest.raises(KeyboardInterrupt):
        idempotent_function(counted(), persistence_store=layer)({"id": 1})
    assert statuses(layer) == [COMPLETED]


@pytest.mark.parametrize(
    ("then", "behind", "status"),
    [
        (IdempotencyResponseUnavailableError("larger than 400 KB"), type(None), UNAVAILABLE),
        (IdempotencyLeaseLostError("lost"), IdempotencyLeaseLostError, INPROGRESS),
        (ConnectionError("gone"), IdempotencyPersistenceLayerError, INPROGRESS),
    ],
    ids=["unstorable", "lost", "down"],
)
def test_an_interrupted_completion_ends_with_the_interruption_and_the_response_behind_it(then, behind, status):
    layer = Failing("_update_record", KeyboardInterrupt(), then, *[then] * 9 * isinstance(then, ConnectionError))
    with pytest.raises(KeyboardInterrupt) as interrupted:
        idempotent_function(counted(), persistence_store=layer)({"id": 1})
    context = interrupted.value.__context__
    assert type(context) is behind
    assert getattr(context, "response", 1) == 1
    assert statuses(layer) == [status]


class AsyncGate(AsyncMemoryPersistenceLayer):
    """Holds one operation at a gate until it is opened."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def _pass(self, operation):
        if operation == self.operation:
            self.reached.set()
            await self.open.wait()

    async def _put_record(self, data_record):
        await super()._put_record(data_record)
        await self._pass("_put_record")

    async def _update_record(self, data_record):
        await self._pass("_update_record")
        await super()._update_record(data_record)

    async def _delete_record(self, data_record):
        await self._pass("_delete_record")
        await super()._delete_record(data_record)


@pytest.mark.parametrize("cancellations", [1, 3])
@pytest.mark.parametrize(
    ("operation", "left"), [("_put_record", []), ("_update_record", [COMPLETED]), ("_delete_record", [])]
)
def test_a_task_cancelled_in_the_middle_of_a_write_leaves_nothing_half_way(operation, left, cancellations):
    """Also when it is cancelled at each await from then on, as some schedulers do."""

    async def main():
        layer = AsyncGate(operation)
        charge = counted(error=ValueError("no") if operation == "_delete_record" else None)

        async def body(order):
            return charge(order)

        call = idempotent_function(body, persistence_store=layer, key_prefix="charge")
        task = asyncio.create_task(call({"id": 1}))
        await layer.reached.wait()
        for _ in range(cancellations):
            task.cancel()
            await asyncio.sleep(0)
        layer.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [record.stored_status for record in layer._layer._records.values()]

    assert asyncio.run(main()) == left
