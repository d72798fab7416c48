"""What a call finds under its key, and what follows."""

from __future__ import annotations

import pytest

from retrysafe import IdempotencyConfig, idempotent_function
from retrysafe.exceptions import (
    IdempotencyAbandonedError,
    IdempotencyAlreadyInProgressError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyValidationError,
)
from retrysafe.persistence.datarecord import COMPLETED, FAILED, INPROGRESS
from retrysafe.serialization.no_op import NoOpSerializer
from support.bodies import counted, only_record, plant


def test_a_running_call_refuses_its_duplicate_with_record_owner_and_when_to_retry(flavour, clock):
    layer = flavour.layer(clock=clock)
    call = flavour.function(counted(), persistence_store=layer)
    call({"id": 1})
    running = plant(
        flavour,
        layer,
        status=INPROGRESS,
        owner="other",
        in_progress_expiry_timestamp=clock.now_ms() + 7000,
        expiry_timestamp=clock.now_ms() // 1000 + 60,
    )
    with pytest.raises(IdempotencyAlreadyInProgressError) as refused:
        call({"id": 1})
    assert refused.value.record == running
    assert (refused.value.owner, refused.value.idempotency_key) == ("other", running.idempotency_key)
    assert refused.value.retry_after == 7.001, "the lease counts in its last millisecond"
    assert "waiting" not in str(refused.value)


def test_a_run_that_died_is_taken_over_as_soon_as_its_lease_ends_not_its_window(flavour, clock, events):
    layer = flavour.layer(clock=clock)
    config = IdempotencyConfig(expires_after_seconds=86400, event_hook=events.append)
    charge = counted()
    call = flavour.function(charge, persistence_store=layer, config=config)
    call({"id": 1})
    plant(flavour, layer, status=INPROGRESS, owner="dead", in_progress_expiry_timestamp=clock.now_ms() + 30_000)
    clock.advance(30)
    with pytest.raises(IdempotencyAlreadyInProgressError):
        call({"id": 1})
    clock.advance(0.001)
    assert call({"id": 1}) == 2
    assert only_record(flavour, layer).attempt == 2
    taken_over = next(event for event in events if event.name == "taken over")
    assert (taken_over.previous_owner, taken_over.attempt) == ("dead", 2)


def test_with_on_abandoned_raise_a_run_that_died_waits_for_a_person(flavour, clock):
    layer = flavour.layer(clock=clock)
    charge = counted()
    call = flavour.function(charge, persistence_store=layer, config=IdempotencyConfig(on_abandoned="raise"))
    call({"id": 1})
    plant(flavour, layer, status=INPROGRESS, owner="dead", in_progress_expiry_timestamp=clock.now_ms())
    clock.advance(60)
    for _ in range(2):
        with pytest.raises(IdempotencyAbandonedError) as abandoned:
            call({"id": 1})
        assert abandoned.value.owner == "dead"
    assert charge.body.runs == 1


def test_and_it_waits_for_that_person_for_ten_years_whatever_its_window(flavour, clock):
    layer = flavour.layer(clock=clock)
    config = IdempotencyConfig(on_abandoned="raise", expires_after_seconds=60)
    records = []
    charge = counted(during=lambda: records.append(only_record(flavour, layer)))
    call = flavour.function(charge, persistence_store=layer, config=config)
    call({"id": 1})
    flavour.inner(layer)._records[records[0].idempotency_key] = records[0]  # as if it had died while it ran
    clock.advance(10 * 365 * 86400)
    flavour.function(counted(), persistence_store=layer, key_prefix="other")({"id": 1})  # sweeps what is over
    with pytest.raises(IdempotencyAbandonedError):
        call({"id": 1})
    assert charge.body.runs == 1


def test_a_running_record_of_a_peer_without_a_lease_is_held_until_its_window_is_over(flavour, clock):
    layer = flavour.layer(clock=clock)
    charge = counted()
    call = flavour.function(charge, persistence_store=layer)
    call({"id": 1})
    plant(flavour, layer, status=INPROGRESS, owner=None, in_progress_expiry_timestamp=None)
    clock.advance(3600)
    with pytest.raises(IdempotencyAlreadyInProgressError) as refused:
        call({"id": 1})
    assert refused.value.retry_after == 1.001
    clock.advance(0.999)
    with pytest.raises(IdempotencyAlreadyInProgressError):
        call({"id": 1})
    clock.advance(0.001)
    assert call({"id": 1}) == 2


def test_the_window_is_never_shorter_than_asked_and_then_the_function_runs_again(flavour, clock):
    clock.advance(0.999)
    charge = counted()
    call = flavour.function(
        charge, persistence_store=flavour.layer(clock=clock), config=IdempotencyConfig(expires_after_seconds=1)
    )
    assert call({"id": 1}) == 1
    clock.advance(1.0)
    assert call({"id": 1}) == 1
    clock.advance(1.0)
    assert call({"id": 1}) == 2


def test_the_window_does_not_end_a_run_that_is_longer(flavour, clock):
    layer = flavour.layer(clock=clock)
    seen = []

    def later_duplicate():
        if seen:
            return
        clock.advance(20)
        with pytest.raises(IdempotencyAlreadyInProgressError):
            seen.append(True) or layer_call()

    def layer_call():
        inner = flavour.inner(layer)
        return idempotent_function(lambda order: 0, persistence_store=inner, key_prefix="charge")({"id": 1})

    charge = counted(during=later_duplicate)
    config = IdempotencyConfig(expires_after_seconds=1)
    call = flavour.function(charge, persistence_store=layer, config=config, key_prefix="charge")
    assert call({"id": 1}) == 1
    assert seen


def test_another_payload_under_the_same_key_is_refused_whatever_stands_also_before_a_takeover(flavour, clock):
    layer = flavour.layer(clock=clock)
    config = IdempotencyConfig(event_key_jmespath="id", payload_validation_jmespath="amount")
    charge = counted()
    call = flavour.function(charge, data_keyword_argument="order", persistence_store=layer, config=config)
    call({"id": 1, "amount": 5})
    with pytest.raises(IdempotencyValidationError) as refused:
        call({"id": 1, "amount": 6})
    assert refused.value.record == only_record(flavour, layer)
    plant(flavour, layer, status=INPROGRESS, owner="dead", in_progress_expiry_timestamp=clock.now_ms())
    clock.advance(60)
    with pytest.raises(IdempotencyValidationError):
        call({"id": 1, "amount": 6})
    assert call({"id": 1, "amount": 5}) == 2


def test_a_refused_duplicate_is_not_told_as_a_replay_nor_kept_at_hand(flavour, events):
    layer = flavour.layer()
    rules = {"event_key_jmespath": "id", "payload_validation_jmespath": "amount", "use_local_cache": True}
    for first in (5, 6):  # the second one has seen nothing yet
        config = IdempotencyConfig(**rules, event_hook=events.append)
        call = flavour.function(
            counted(), data_keyword_argument="order", persistence_store=layer, config=config, key_prefix="charge"
        )
        if first == 5:
            call({"id": 1, "amount": 5})
        else:
            for _ in range(2):
                with pytest.raises(IdempotencyValidationError):
                    call({"id": 1, "amount": 6})
    assert [event.name for event in events] == ["claimed", "completed"]


def test_a_record_from_before_validation_was_switched_on_is_accepted(flavour):
    layer = flavour.layer()
    charge = counted()
    options = {"data_keyword_argument": "order", "persistence_store": layer}
    flavour.function(charge, config=IdempotencyConfig(event_key_jmespath="id"), **options)({"id": 1, "amount": 5})
    config = IdempotencyConfig(event_key_jmespath="id", payload_validation_jmespath="amount")
    assert flavour.function(charge, config=config, **options)({"id": 1, "amount": 6}) == 1


def test_so_is_one_from_before_it_was_switched_off(flavour):
    layer = flavour.layer()
    charge = counted()
    options = {"data_keyword_argument": "order", "persistence_store": layer}
    config = IdempotencyConfig(event_key_jmespath="id", payload_validation_jmespath="amount")
    flavour.function(charge, config=config, **options)({"id": 1, "amount": 5})
    config = IdempotencyConfig(event_key_jmespath="id")
    assert flavour.function(charge, config=config, **options)({"id": 1, "amount": 6}) == 1


def test_a_record_with_an_unknown_status_is_refused_and_left_as_it_is(flavour):
    layer = flavour.layer()
    charge = counted()
    call = flavour.function(charge, persistence_store=layer)
    call({"id": 1})
    standing = plant(flavour, layer, status="PAUSED")
    with pytest.raises(IdempotencyPersistenceConsistencyError, match="PAUSED"):
        call({"id": 1})
    assert only_record(flavour, layer) == standing
    assert charge.body.runs == 1


def test_it_is_left_as_it_is_though_its_window_is_over(flavour, clock):
    layer = flavour.layer(clock=clock)
    charge = counted()
    call = flavour.function(charge, persistence_store=layer)
    call({"id": 1})
    standing = plant(flavour, layer, status="PAUSED")
    clock.advance(10**6)
    with pytest.raises(IdempotencyPersistenceConsistencyError, match="PAUSED"):
        call({"id": 1})
    assert only_record(flavour, layer) == standing


@pytest.mark.parametrize("status", [COMPLETED, FAILED])
def test_an_answer_that_cannot_be_read_is_refused_and_not_run_again(flavour, status):
    layer = flavour.layer()
    charge = counted()
    call = flavour.function(charge, persistence_store=layer)
    call({"id": 1})
    standing = plant(flavour, layer, status=status, response_data="{not json")
    with pytest.raises(IdempotencyPersistenceConsistencyError) as refused:
        call({"id": 1})
    assert standing.idempotency_key in str(refused.value)
    assert charge.body.runs == 1


def test_one_that_the_serializer_cannot_read_is_refused_with_what_it_raised(flavour):
    class Refusing(NoOpSerializer):
        def from_dict(self, data):
            raise KeyError("cents")

    call = flavour.function(counted(), persistence_store=flavour.layer(), output_serializer=Refusing())
    call({"id": 1})
    with pytest.raises(IdempotencyPersistenceConsistencyError) as refused:
        call({"id": 1})
    assert (refused.value.details, type(refused.value.__cause__)) == ("KeyError", KeyError)
