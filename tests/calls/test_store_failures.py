"""What a caller gets when the store fails, and that nothing runs twice for it."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from retrysafe import DataRecord, IdempotencyConfig, current_execution, idempotent_function
from retrysafe.exceptions import (
    IdempotencyInvalidStatusError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.persistence.datarecord import INPROGRESS, UNAVAILABLE
from retrysafe.testing import ManualClock
from support.bodies import counted, plant
from support.flaky import FlakyLayer
from support.flavours import Flavour, MixedFlavour


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
    assert (failed.value.has_run, charge.body.runs) == (False, 0)


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
    charge, layer = counted(answer=None), FlakyLayer("_update_record", 10**6)
    with pytest.raises(IdempotencyPersistenceLayerError, match="could not be stored") as failed:
        flavour.function(charge, persistence_store=layer, config=LEASE)({"id": 1})
    assert (failed.value.has_run, failed.value.response) == (True, 1)
    (record,) = layer._records.values()
    assert record.idempotency_key in str(failed.value), "whoever resolves it by hand needs the key"
    assert isinstance(failed.value.__cause__, ConnectionError)
    assert charge.body.runs == 1


def test_a_failure_that_could_not_be_stored_as_an_answer_is_what_the_caller_sees_all_the_same(flavour, events):
    charge = counted(error=ValueError("declined"))
    config = IdempotencyConfig(
        in_progress_expires_after_seconds=0.3, replay_exceptions=(ValueError,), event_hook=events.append
    )
    with pytest.raises(ValueError, match="declined"):
        flavour.function(charge, persistence_store=FlakyLayer("_update_record", 10**6), config=config)({"id": 1})
    assert charge.body.runs == 1
    assert [event.name for event in events] == ["claimed", "released"]
    assert (events[1].stored, events[1].level) == (False, logging.WARNING), "nobody else hears of the store"


def test_a_key_that_could_not_be_freed_is_a_warning(flavour, caplog):
    """The caller has the function's exception, and calls are refused until the lease is over."""
    charge, layer = counted(error=ValueError("declined")), FlakyLayer("_delete_record", 10**6)
    caplog.set_level(logging.WARNING, "retrysafe")
    with pytest.raises(ValueError, match="declined"):
        flavour.function(charge, persistence_store=layer)({"id": 1})
    (warning,) = caplog.records
    assert (warning.idempotency["event"], warning.idempotency["stored"]) == ("released", False)


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

    def __init__(self, times=99, seconds=20):
        super().__init__("_update_record", times)
        self.clock, self.seconds = ManualClock(), seconds

    def _update_record(self, data_record):
        self.clock.advance(self.seconds)
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


def test_in_an_invocation_time_is_left_to_hand_the_error_out_before_lambda_ends_it():
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 3000)
    assert SlowLayer(seconds=0.4).tries_of_an_outcome(lambda_context=context) == 7, "an eighth would end after 3.2 s"


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
