"""What a person can say of a run that never ended, and what is refused: in memory, with a clock that stands still."""

from __future__ import annotations

import asyncio
import dataclasses
import functools

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, IdempotencyConfig, MemoryPersistenceLayer, idempotent_function
from retrysafe.abandoned import (
    complete_abandoned,
    complete_abandoned_async,
    release_abandoned,
    release_abandoned_async,
)
from retrysafe.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyConfigError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.persistence.datarecord import INPROGRESS
from retrysafe.serialization.dataclass import DataclassSerializer
from retrysafe.testing import FailingLayer, ManualClock
from support.flavours import FLAVOURS
from support.own_clock import OwnClockLayer

CAREFUL = IdempotencyConfig(on_abandoned="raise", expires_after_seconds=600)


@dataclasses.dataclass
class Receipt:
    number: int


def pay(order: str) -> Receipt:
    return Receipt(int(order))


def call_on(store, **options):
    return idempotent_function(pay, persistence_store=store, config=CAREFUL, key_prefix="pay", **options)


@pytest.fixture
def store(clock):
    return MemoryPersistenceLayer(clock=clock)


@pytest.fixture
def record(store, clock):
    """The record of a run that died, its lease over."""
    call_on(store)("7")
    (key,) = store._records
    running = {"status": INPROGRESS, "owner": "dead", "response_data": "", "types": ""}
    left = store._records[key].replaced(**running, in_progress_expiry_timestamp=clock.now_ms())
    store._records[key] = left
    clock.advance(1)
    return left


def everything_said(record, store):
    """Each of the four, not called yet."""
    return [
        lambda: complete_abandoned(record, 1, persistence_store=store),
        lambda: asyncio.run(complete_abandoned_async(record, 1, persistence_store=store)),
        lambda: release_abandoned(record, persistence_store=store),
        lambda: asyncio.run(release_abandoned_async(record, persistence_store=store)),
    ]


def test_an_answer_comes_back_as_the_class_that_the_functions_annotation_names(store, record):
    complete_abandoned(record, Receipt(17), persistence_store=store, function=pay)
    assert call_on(store)("7") == Receipt(17)


def test_an_answer_goes_through_the_functions_serializer(store, record):
    serializer = DataclassSerializer(Receipt)
    complete_abandoned(record, Receipt(17), persistence_store=store, output_serializer=serializer)
    assert store._records[record.idempotency_key].response_data == '{"number": 17}'
    assert call_on(store, output_serializer=serializer)("7") == Receipt(17)


def test_a_class_of_serializer_takes_its_model_from_the_function_as_in_the_decorator(store, record):
    complete_abandoned(
        record, Receipt(17), persistence_store=store, function=pay, output_serializer=DataclassSerializer
    )
    assert store._records[record.idempotency_key].response_data == '{"number": 17}'
    assert call_on(store, output_serializer=DataclassSerializer)("7") == Receipt(17)


def test_the_window_is_that_of_the_rules_and_begins_now(store, record, clock):
    complete_abandoned(record, "paid", persistence_store=store, config=CAREFUL)
    assert store._records[record.idempotency_key].expiry_timestamp == clock.now_ms() // 1000 + 600


def test_a_run_that_goes_on_after_all_is_left_alone(store, record, clock):
    store._records[record.idempotency_key] = record.replaced(in_progress_expiry_timestamp=clock.now_ms() + 5000)
    for say in everything_said(record, store):
        with pytest.raises(IdempotencyAlreadyInProgressError, match="nothing was changed") as running:
            say()
        assert running.value.retry_after == pytest.approx(5, abs=0.01)
    assert store._records[record.idempotency_key].owner == "dead"


def test_another_run_that_was_abandoned_since_is_left_alone(store, record):
    store._records[record.idempotency_key] = record.replaced(owner="other")
    for say in everything_said(record, store):
        with pytest.raises(IdempotencyLeaseLostError) as lost:
            say()
        assert lost.value.record.owner == "other"
    assert store._records[record.idempotency_key].owner == "other"


def test_a_record_that_is_gone_is_not_made_again(store, record):
    store._records.clear()
    for say in everything_said(record, store):
        with pytest.raises(IdempotencyLeaseLostError, match="nothing stands in the place") as lost:
            say()
        assert lost.value.record is None
    assert not store._records


@pytest.mark.parametrize("operation", ["get", "update", "delete"])
@pytest.mark.parametrize("error", [OSError("gone"), IdempotencyPersistenceConnectionError("gone")], ids=["any", "ours"])
def test_a_store_that_fails_is_told_of_and_asked_again_when_it_is_said_again(store, record, operation, error):
    failing = FailingLayer(store)
    failing.fail(operation, error=error)
    say = release_abandoned if operation == "delete" else functools.partial(complete_abandoned, answer="paid")
    with pytest.raises(IdempotencyPersistenceLayerError, match="gone") as told:
        say(record, persistence_store=failing)
    assert error in (told.value, told.value.__cause__)
    assert store._records[record.idempotency_key] is record
    failing.heal()
    say(record, persistence_store=failing)
    assert call_on(store)("7") == (Receipt(7) if operation == "delete" else "paid")


def test_a_run_that_comes_back_between_the_look_and_the_release_is_told_of(store, record, clock):
    class RenewedMeanwhile(MemoryPersistenceLayer):
        def _delete_record(self, data_record):
            self._records[data_record.idempotency_key] = record.replaced(status="COMPLETED", response_data="1")
            super()._delete_record(data_record)

    racing = RenewedMeanwhile(clock=clock)
    racing._records = store._records
    with pytest.raises(IdempotencyLeaseLostError) as lost:
        release_abandoned(record, persistence_store=racing)
    assert lost.value.record.response_data == "1"


def test_a_key_that_is_claimed_anew_right_after_the_release_was_released(store, record, clock):
    class ClaimedAtOnce(MemoryPersistenceLayer):
        def _delete_record(self, data_record):
            super()._delete_record(data_record)
            self._records[data_record.idempotency_key] = record.replaced(owner="other")

    racing = ClaimedAtOnce(clock=clock)
    racing._records = store._records
    release_abandoned(record, persistence_store=racing)
    assert store._records[record.idempotency_key].owner == "other"


def test_an_answer_is_not_said_to_be_stored_where_the_key_passes_on_between_the_look_and_the_write(
    store, record, clock
):
    class TakenMeanwhile(MemoryPersistenceLayer):
        def _update_record(self, data_record):
            self._records[data_record.idempotency_key] = record.replaced(owner="other")
            super()._update_record(data_record)

    racing = TakenMeanwhile(clock=clock)
    racing._records = store._records
    with pytest.raises(IdempotencyLeaseLostError) as lost:
        complete_abandoned(record, "paid", persistence_store=racing)
    assert lost.value.record.owner == store._records[record.idempotency_key].owner == "other"


def test_nor_where_the_store_cannot_take_it(store, record):
    failing = FailingLayer(store)
    failing.fail("update", error=IdempotencyResponseUnavailableError("too large"))
    with pytest.raises(IdempotencyResponseUnavailableError, match="too large"):
        complete_abandoned(record, "paid", persistence_store=failing)
    assert store._records[record.idempotency_key] is record


@pytest.mark.parametrize("ahead_seconds", [-3600, 3600])
def test_where_the_store_has_a_clock_of_its_own_that_one_judges_and_dates(record, ahead_seconds):
    clock, store_clock = ManualClock(), ManualClock()
    (store_clock if ahead_seconds > 0 else clock).advance(3600)
    layer = OwnClockLayer(clock=clock, store_clock=store_clock)
    lease_end = store_clock.now_ms() + 5000
    layer.store._records[record.idempotency_key] = record.replaced(in_progress_expiry_timestamp=lease_end)
    for say in everything_said(record, layer):
        with pytest.raises(IdempotencyAlreadyInProgressError) as running:
            say()
        assert running.value.retry_after == pytest.approx(5, abs=0.01)
    store_clock.advance(6)
    complete_abandoned(record, "paid", persistence_store=layer, config=CAREFUL)
    completed = layer.store._records[record.idempotency_key]
    assert completed.expiry_timestamp == store_clock.now_ms() // 1000 + 600


@pytest.mark.parametrize("flavour", [each for each in FLAVOURS if each.is_async], ids=lambda each: each.name)
def test_asynchronous_code_says_it_on_a_layer_of_either_kind(flavour, clock):
    layer = flavour.layer(clock=clock)
    call = functools.partial(flavour.function(lambda order: 1, persistence_store=layer, key_prefix="pay"), "7")
    call()
    records = flavour.inner(layer)._records
    (key,) = records
    records[key] = records[key].replaced(
        status=INPROGRESS, owner="dead", in_progress_expiry_timestamp=clock.now_ms() - 1
    )
    asyncio.run(complete_abandoned_async(records[key], 2, persistence_store=layer))
    assert call() == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"record": "pay#1"}, "record must be the DataRecord"),
        ({"persistence_store": "memory://"}, "memory://"),
        ({"persistence_store": AsyncMemoryPersistenceLayer()}, "AsyncMemoryPersistenceLayer is asynchronous: await"),
        ({"config": {"expires_after_seconds": 5}}, "config must be an IdempotencyConfig"),
        ({"output_serializer": Receipt}, "output_serializer must be a serializer"),
        ({"output_serializer": DataclassSerializer}, "output_serializer must be a serializer"),
        ({"output_serializer": Receipt, "function": pay}, "output_serializer must be a serializer"),
        ({"answer": object()}, "the answer cannot be stored: answer: object"),
        ({"answer": Receipt(1)}, r"plain values in the place of [\w.]*test_abandoned\.Receipt"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_refused_and_changes_nothing(store, record, options, said):
    given = {"record": record, "answer": 1, "persistence_store": store} | options
    with pytest.raises(IdempotencyConfigError, match=said):
        complete_abandoned(given.pop("record"), given.pop("answer"), **given)
    assert store._records[record.idempotency_key] is record


def test_the_record_of_a_peer_is_refused_since_nothing_tells_its_runs_apart(store, record):
    for say in everything_said(record.replaced(owner=None), store):
        with pytest.raises(IdempotencyConfigError, match="has no owner"):
            say()
