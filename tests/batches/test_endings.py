"""Each item of a batch ends as a call of its own would: one by one, or together, it comes to the same."""

from __future__ import annotations

import random

import pytest

from retrysafe import IdempotencyConfig, current_execution
from retrysafe.events import Claimed, Completed, Released, Replayed
from retrysafe.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyKeyError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyValidationError,
)
from retrysafe.persistence.datarecord import COMPLETED, FAILED, UNAVAILABLE
from support.batches import SYNC, DeclinedError, Work, failing, one_at_a_time, orders, over_many, statuses, stored


def replaying(*errors, **options):
    return IdempotencyConfig(event_key_jmespath="id", replay_exceptions=errors, **options)


# --- the ways in which items end --------------------------------------------------------------------------------------


def test_each_item_runs_once_and_is_replayed_in_the_next_batch(flavour):
    layer, work = flavour.layer(), Work()
    charge = over_many(flavour, work, layer)
    first, second = charge(orders(1, 2, 3)), charge(orders(3, 4, 2))
    assert work.runs == [1, 2, 3, 4]
    assert statuses(first) == ["returned"] * 3
    assert statuses(second) == ["replayed", "returned", "replayed"]
    assert [each.answer for each in second] == [{"paid": 3}, {"paid": 4}, {"paid": 2}]
    assert all(each.ok and each.error is None for each in second)
    assert second[1].item == {"id": 4}


def test_a_batch_shares_its_keys_with_single_calls(flavour):
    layer, work = flavour.layer(), Work()
    assert one_at_a_time(flavour, work, layer)({"id": 1}) == {"paid": 1}
    assert statuses(over_many(flavour, work, layer)(orders(1, 2))) == ["replayed", "returned"]
    assert one_at_a_time(flavour, work, layer)({"id": 2}) == {"paid": 2}
    assert work.runs == [1, 2]


def test_an_item_that_comes_twice_in_a_batch_runs_once_and_costs_no_further_trip(flavour):
    layer, work = failing(flavour), Work()
    result = over_many(flavour, work, layer)(orders(1, 2, 1, 1))
    assert statuses(result) == ["returned", "returned", "replayed", "replayed"]
    assert [each.answer for each in result] == [{"paid": 1}, {"paid": 2}, {"paid": 1}, {"paid": 1}]
    assert work.runs == [1, 2]
    assert (layer.calls["put"], layer.calls["update"], layer.calls["get"]) == (2, 2, 0)
    assert statuses(over_many(flavour, work, layer)(orders(1, 2, 1, 1))) == ["replayed"] * 4
    assert (layer.calls["put"], layer.calls["update"], layer.calls["get"]) == (4, 2, 0)


def test_an_item_that_fails_fails_alone_and_runs_when_it_comes_again(flavour):
    layer, work = flavour.layer(), Work(2)
    charge = over_many(flavour, work, layer)
    result = charge(orders(1, 2, 3))
    assert statuses(result) == ["returned", "raised", "returned"]
    assert isinstance(result[1].error, DeclinedError)
    assert [each.item for each in result.failures] == [{"id": 2}]
    assert stored(flavour, layer) == [COMPLETED, COMPLETED]
    work.failing.clear()
    assert statuses(charge(orders(1, 2, 3))) == ["replayed", "returned", "replayed"]


def test_a_duplicate_of_an_item_that_failed_is_a_retry_as_it_is_one_by_one(flavour):
    layer, work = flavour.layer(), Work()

    def once_then_well(order):
        work.failing = set() if work.runs else {1}
        return work(order)

    result = over_many(flavour, once_then_well, layer)(orders(1, 2, 1, 1))
    assert statuses(result) == ["raised", "returned", "returned", "replayed"]
    assert work.runs == [1, 2, 1]


@pytest.mark.parametrize("flavour", SYNC, ids=lambda flavour: flavour.name)
def test_an_item_that_runs_elsewhere_is_reported_and_hinders_no_other(flavour):
    layer, work = flavour.layer(), Work()
    charge = over_many(flavour, work, layer)
    results = []
    one_at_a_time(flavour, lambda order: results.append(charge(orders(1, 2))), layer)({"id": 1})
    (result,) = results
    assert statuses(result) == ["in_progress", "returned"]
    assert isinstance(result[0].error, IdempotencyAlreadyInProgressError)
    assert result[0].error.retry_after > 0
    assert statuses(charge(orders(1))) == ["replayed"]


def test_an_item_that_meets_a_running_call_inside_its_own_run_has_run(flavour):
    def meets(order):
        raise IdempotencyAlreadyInProgressError("a call of its own")

    result = over_many(flavour, meets, flavour.layer())(orders(1))
    assert statuses(result) == ["raised"]


def test_the_same_key_with_another_payload_is_refused_by_itself_also_within_a_batch(flavour):
    config = IdempotencyConfig(event_key_jmespath="id", payload_validation_jmespath="amount")
    layer, work = flavour.layer(), Work()
    charge = over_many(flavour, work, layer, config)
    batch = [{"id": 1, "amount": 5}, {"id": 1, "amount": 6}, {"id": 2, "amount": 5}, {"id": 1, "amount": 5}]
    for expected in (["returned", "raised", "returned", "replayed"], ["replayed", "raised", "replayed", "replayed"]):
        result = charge(batch)
        assert statuses(result) == expected
        assert isinstance(result[1].error, IdempotencyValidationError)
    assert work.runs == [1, 2]


def test_a_failure_that_is_an_answer_is_raised_again_for_duplicates(flavour):
    config = IdempotencyConfig(event_key_jmespath="id", replay_exceptions=DeclinedError)
    layer, work = flavour.layer(), Work(1)
    for _ in range(2):
        result = over_many(flavour, work, layer, config)(orders(1, 1, 2))
        assert [each.ok for each in result] == [False, False, True]
        assert [type(each.error) for each in result[:2]] == [DeclinedError] * 2
        assert result[1].error.args == (1,)
    assert work.runs == [1, 2]


def test_hook_and_events_are_those_of_single_calls(flavour, events):
    config = IdempotencyConfig(
        event_key_jmespath="id",
        event_hook=events.append,
        response_hook=lambda answer, record: answer | {"replayed": record.attempt},
    )
    result = over_many(flavour, Work(2), flavour.layer(), config)(orders(1, 2, 1))
    assert [each.answer for each in result] == [{"paid": 1}, None, {"paid": 1, "replayed": 1}]
    kinds = [type(event) for event in events]
    assert sorted(kinds, key=lambda kind: kind.name) == [Claimed, Claimed, Completed, Released, Replayed]


def test_a_hook_that_raises_and_a_failure_that_cannot_be_read_are_the_errors_of_their_items_alone(flavour):
    def hook(answer, record):
        if answer == {"paid": 1}:
            raise LookupError
        return answer

    layer, work = flavour.layer(), Work(2)
    over_many(flavour, work, layer, replaying(DeclinedError))(orders(1, 2, 3))
    records = flavour.inner(layer)._records
    (failed,) = (key for key, record in records.items() if record.stored_status == FAILED)
    records[failed] = records[failed].replaced(response_data="{not json")
    result = over_many(flavour, work, layer, replaying(DeclinedError, response_hook=hook))(orders(1, 2, 3, 4))
    assert [type(each.error) for each in result[:2]] == [LookupError, IdempotencyPersistenceConsistencyError]
    assert [each.answer for each in result[2:]] == [{"paid": 3}, {"paid": 4}]
    assert work.runs == [1, 2, 3, 4]


def test_an_answer_that_cannot_be_stored_is_given_once_and_does_not_run_again(flavour):
    layer, runs = flavour.layer(), []

    def work(order):
        runs.append(order["id"])
        return object() if order["id"] == 1 else "paid"

    charge = over_many(flavour, work, layer)
    assert statuses(charge(orders(1, 2))) == ["returned", "returned"]
    assert stored(flavour, layer) == [COMPLETED, UNAVAILABLE]
    assert statuses(charge(orders(1, 2))) == ["raised", "replayed"]
    assert runs == [1, 2]


def test_an_item_without_a_key_runs_unprotected_with_a_warning_or_fails_alone(flavour):
    work = Work()
    with pytest.warns(UserWarning, match="runs without protection"):
        result = over_many(flavour, work, flavour.layer())(orders(1, None, None, 1))
    assert statuses(result) == ["returned", "returned", "returned", "replayed"]
    assert work.runs == [1, None, None]
    strict = IdempotencyConfig(event_key_jmespath="id", raise_on_no_idempotency_key=True)
    result = over_many(flavour, work, flavour.layer(), strict)(orders(1, None))
    assert statuses(result) == ["returned", "raised"]
    assert isinstance(result[1].error, IdempotencyKeyError)


def test_an_item_that_cannot_be_hashed_fails_alone(flavour):
    result = over_many(flavour, Work(), flavour.layer(), None)([{"id": 1}, {"id": object()}, {"id": 2}])
    assert statuses(result) == ["returned", "raised", "returned"]
    assert isinstance(result[1].error, IdempotencyKeyError)


def test_the_function_knows_its_own_execution(flavour):
    keys = []

    def work(order):
        keys.append((current_execution().attempt, current_execution().key_for("charge")))

    assert statuses(over_many(flavour, work, flavour.layer())(orders(1, 2))) == ["returned"] * 2
    assert [attempt for attempt, _ in keys] == [1, 1]
    assert keys[0] != keys[1]


# --- as one by one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_a_batch_comes_to_what_its_items_come_to_one_by_one(flavour, clock, seed):
    """The same orders, on stores with the same history: the same endings, the same runs of each, the same records."""
    chance = random.Random(seed)  # noqa: S311  # a simulation
    config = IdempotencyConfig(
        event_key_jmespath="id",
        payload_validation_jmespath="amount",
        replay_exceptions=DeclinedError if chance.random() < 0.5 else (),
        on_abandoned=chance.choice(["retry", "raise"]),
        use_local_cache=chance.random() < 0.3,
    )
    batch = [{"id": chance.randrange(8), "amount": chance.randrange(1, 12) // 10} for _ in range(12)]
    failures = {chance.randrange(8) for _ in range(2)}
    before = [({"id": number, "amount": 0}, chance.choice(["done", "failed", "died", "none"])) for number in range(8)]

    def history(layer):
        for order, what in before:
            if what == "none":
                continue
            if what == "died":
                layer.fail("delete")
            one_at_a_time_into(flavour, Work(*([order["id"]] if what != "done" else [])), layer, config, order)
            layer.heal()
        clock.advance(31)

    alone, together = failing(flavour, clock=clock), failing(flavour, clock=clock)
    moment = clock.now_ms()
    history(alone)
    work_alone = Work(*failures)
    ends = [one_at_a_time_into(flavour, work_alone, alone, config, order) for order in batch]
    clock.advance((moment - clock.now_ms()) / 1000)
    history(together)
    work_together = Work(*failures)
    result = over_many(flavour, work_together, together, config)(batch)
    assert [(type(each.error), each.answer) for each in result] == ends
    assert sorted(work_together.runs) == sorted(work_alone.runs)
    assert plain_records(flavour, together) == plain_records(flavour, alone)


def one_at_a_time_into(flavour, work, layer, config, order):
    try:
        return type(None), one_at_a_time(flavour, work, layer, config)(order)
    except Exception as error:  # noqa: BLE001  # compared
        return type(error), None


def plain_records(flavour, layer):
    records = flavour.inner(layer._layer)._records
    return {key: (each.stored_status, each.attempt, each.response_data) for key, each in records.items()}
