"""A layer written for the peer, with four methods and no idea of owners, works as it did there."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from retrysafe import IdempotencyConfig, current_execution, idempotent_function
from retrysafe.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyInconsistentStateError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyValidationError,
)
from support.bodies import counted
from support.peer_layers import PeerLayer, in_batch


@pytest.fixture
def layer():
    return PeerLayer()


def test_it_runs_once_replays_and_frees_a_failed_key(layer):
    charge = counted()
    call = idempotent_function(charge, persistence_store=layer)
    assert [call(1), call(1)] == [1, 1]
    charge.body.error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        call(2)
    assert len(layer.items) == 1


def test_it_keeps_the_payload_hash(layer):
    config = IdempotencyConfig(event_key_jmespath="id", payload_validation_jmespath="amount")
    call = idempotent_function(counted(), data_keyword_argument="order", persistence_store=layer, config=config)
    call({"id": 1, "amount": 5})
    with pytest.raises(IdempotencyValidationError):
        call({"id": 1, "amount": 6})


def test_a_running_record_is_refused_and_one_whose_lease_is_over_is_taken_over_by_the_layer_itself(layer):
    charge = counted()
    call = idempotent_function(charge, persistence_store=layer)
    call(1)
    (item,) = layer.items.values()
    item |= {"status": "INPROGRESS", "in_progress_expiration": int(time.time() * 1000) + 60_000}
    with pytest.raises(IdempotencyAlreadyInProgressError) as refused:
        call(1)
    assert refused.value.owner is None
    item["in_progress_expiration"] = 1
    assert call(1) == 2


class TellingLayer(PeerLayer):
    """Hands over the record that it met."""

    def _put_record(self, data_record):
        try:
            super()._put_record(data_record)
        except IdempotencyItemAlreadyExistsError:
            raise IdempotencyItemAlreadyExistsError(
                old_data_record=self._get_record(data_record.idempotency_key)
            ) from None


@pytest.mark.parametrize("kind", [PeerLayer, TellingLayer])
def test_the_payload_is_compared_with_what_stands_however_it_is_told_and_with_no_hash_nothing_is(kind):
    layer = kind()
    config = IdempotencyConfig(event_key_jmespath="id", payload_validation_jmespath="amount")
    call = idempotent_function(counted(), data_keyword_argument="order", persistence_store=layer, config=config)
    call({"id": 1, "amount": 5})
    with pytest.raises(IdempotencyValidationError):
        call({"id": 1, "amount": 6})
    (item,) = layer.items.values()
    del item["validation"]
    assert call({"id": 1, "amount": 6}) == 1


class TableLayer(PeerLayer):
    """On a table of boto3's, which gives numbers as Decimals, and nothing for what is missing."""

    def _record(self, item):
        times = {name: Decimal(item[name]) for name in ("expiration", "in_progress_expiration")}
        return super()._record({**item, **times})


def test_a_layer_may_tell_times_as_decimals_and_a_missing_answer_as_none():
    seen = []

    def hook(answer, record):
        seen.append(record.get_expiration_datetime())
        return answer

    layer = TableLayer()
    call = idempotent_function(counted(), persistence_store=layer, config=IdempotencyConfig(response_hook=hook))
    assert [call(1), call(1)] == [1, 1]
    (item,) = layer.items.values()
    assert [each.timestamp() for each in seen] == [item["expiration"]]
    item |= {"status": "INPROGRESS", "data": None, "in_progress_expiration": int(time.time() * 1000) + 60_000}
    with pytest.raises(IdempotencyAlreadyInProgressError) as refused:
        call(1)
    assert type(refused.value.retry_after) is float
    assert "<0 characters>" in repr(refused.value.record)


def test_one_can_wait_on_such_a_layer(flavour):
    layer = TableLayer()
    call = flavour.function(
        counted(), persistence_store=layer, config=IdempotencyConfig(on_in_progress="wait"), key_prefix="p"
    )
    call(1)
    (item,) = layer.items.values()
    item |= {"status": "INPROGRESS", "in_progress_expiration": int(time.time() * 1000) + 20}
    assert call(1) == 2


def refusing(times):
    """A layer that refuses so many claims, with no record under their key when it is asked for that."""

    class Refusing(PeerLayer):
        refusals = times

        def _put_record(self, data_record):
            if self.refusals:
                self.refusals -= 1
                raise IdempotencyItemAlreadyExistsError
            super()._put_record(data_record)

    return Refusing()


def test_claims_refused_for_a_record_that_is_gone_when_it_is_looked_at_are_made_again(flavour):
    """As among waiters for one run after the other that fails."""
    assert flavour.function(counted(), persistence_store=refusing(3))(1) == 1


def test_a_layer_that_refuses_a_claim_and_then_has_no_record_is_told_as_inconsistent(flavour):
    work = counted()
    with pytest.raises(IdempotencyInconsistentStateError):
        flavour.function(work, persistence_store=refusing(99))(1)
    assert work.body.runs == 0


def test_what_stands_is_looked_at_where_the_layer_refuses_a_claim_without_telling(layer, flavour):
    call = flavour.function(counted(), persistence_store=layer)
    assert call(1) == call(1) == 1


def test_a_run_can_ask_whether_it_is_still_the_owner_by_its_lease_also_after_a_takeover(layer):
    """Owner and attempt are nowhere in such a store."""
    answers = []

    def work(n):
        (item,) = layer.items.values()
        answers.append((current_execution().attempt, current_execution().still_owner()))
        item["in_progress_expiration"] += 1
        answers.append(current_execution().still_owner())
        item["status"], item["in_progress_expiration"] = "INPROGRESS", 1
        raise KeyboardInterrupt

    def put(record):
        """Refuses the first claim, as a store does whose clock is behind."""
        if layer.items and refusals:
            raise refusals.pop()
        original(record)

    original, layer._put_record = layer._put_record, put
    refusals = [IdempotencyItemAlreadyExistsError()]
    layer._delete_record = lambda record: None  # as where the process dies
    call = idempotent_function(work, persistence_store=layer)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            call(1)
    assert answers == [(1, True), False, (2, True), False]


@pytest.mark.parametrize("wait", ["raise", "wait"])
@pytest.mark.parametrize("kind", ["single", "batch"])
def test_a_layer_that_never_lets_go_of_an_answer_is_not_told_as_a_running_call(flavour, kind, wait):
    class Forgetless(PeerLayer):
        """It counts on its store to remove what is over."""

        def _put_record(self, data_record):
            if self.items:
                raise IdempotencyItemAlreadyExistsError
            super()._put_record(data_record)

    def work(n):
        return n

    options = {
        "persistence_store": Forgetless(),
        "key_prefix": "p",
        "config": IdempotencyConfig(on_in_progress=wait, wait_timeout_seconds=0.02),
    }
    call = flavour.function(work, **options) if kind == "single" else in_batch(flavour, work, options)
    call(1)
    (item,) = options["persistence_store"].items.values()
    item["expiration"] = 1
    if kind == "single":
        with pytest.raises(IdempotencyInconsistentStateError, match="window") as refused:
            call(1)
        error = refused.value
    else:
        (one,) = call(1)
        error = one.error
    assert type(error) is IdempotencyInconsistentStateError
    assert error.record.stored_status == "COMPLETED"
