"""Batches on a store that fails: nothing runs that was not claimed, and no outcome is lost."""

from __future__ import annotations

import pytest

from retrysafe import MemoryPersistenceLayer
from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence.many import outcome
from support.batches import SYNC, DeclinedError, Work, failing, orders, over_many, statuses


def test_claims_whose_replies_were_lost_are_recognised_as_own(flavour):
    layer, work = failing(flavour), Work()
    for number in (1, 2, 3):
        layer.fail("put", call=number, applied=True)
    assert statuses(over_many(flavour, work, layer)(orders(1, 2, 3))) == ["returned"] * 3
    assert work.runs == [1, 2, 3]


def test_nothing_runs_that_could_not_be_claimed(flavour):
    layer, work = failing(flavour), Work()
    layer.fail("put", call=2)
    layer.fail("put", call=4)  # the second try of the second item, as the claims of all three come first
    result = over_many(flavour, work, layer)(orders(1, 2, 3))
    assert statuses(result) == ["returned", "raised", "returned"]
    assert isinstance(result[1].error, IdempotencyPersistenceConnectionError)
    assert work.runs == [1, 3]


def test_an_outcome_that_the_store_did_not_take_is_tried_again(flavour):
    layer, work = failing(flavour), Work()
    layer.fail("update", call=1)
    layer.fail("update", call=2, applied=True)
    charge = over_many(flavour, work, layer)
    assert statuses(charge(orders(1, 2))) == ["returned", "returned"]
    assert statuses(charge(orders(1, 2))) == ["replayed", "replayed"]


@pytest.mark.parametrize("record_after_seconds", [0, 3600])
def test_while_an_outcome_cannot_be_stored_nothing_more_runs(flavour, record_after_seconds):
    layer = failing(flavour)
    for call in (1, 2, 3):
        layer.fail("update", call=call)
    completions = []

    def work(order):
        completions.append(layer.calls["update"])
        return "paid"

    charge = over_many(flavour, work, layer, record_after_seconds=record_after_seconds, claimed_at_once=1)
    assert statuses(charge(orders(1, 2))) == ["returned", "returned"]
    assert completions == [0, 4]


def test_an_answer_that_could_not_be_stored_travels_with_the_error(flavour, clock):
    layer = failing(flavour, clock=clock)
    layer.fail("update")

    def work(order):
        clock.advance(29.99)  # so that the lease is as good as over
        return {"paid": order["id"]}

    result = over_many(flavour, work, layer)(orders(1))
    assert isinstance(result[0].error, IdempotencyPersistenceLayerError)
    assert result[0].error.response == {"paid": 1}


@pytest.mark.parametrize("told", [1, 3])
@pytest.mark.parametrize("operation", ["put", "update", "delete"])
def test_outcomes_of_a_layer_that_gives_too_few_or_too_many_are_an_error_of_each_item(operation, told, clock):
    class Miscounting(MemoryPersistenceLayer):
        def _for_each(self, asked, arguments):
            outcomes = super()._for_each(asked, arguments)
            return [None] * told if asked == operation and len(arguments) == 2 else outcomes

    layer, runs = Miscounting(clock=clock), []

    def work(order):
        runs.append(order["id"])
        clock.advance(14.995)  # so that in the end the leases are as good as over
        if operation == "delete":
            raise DeclinedError
        return {"paid": order["id"]}

    result = over_many(SYNC[0], work, layer)(orders(1, 2))
    assert statuses(result) == ["raised", "raised"]
    assert runs == ([] if operation == "put" else [1, 2])
    if operation == "update":
        assert [each.error.response for each in result] == [{"paid": 1}, {"paid": 2}]


def test_a_failure_keeps_its_traceback_and_what_refuses_has_none():
    """A refusal is a reply; the frames in its traceback would hold it, and the records of all."""

    def fail(error):
        raise error

    for error in (ValueError("a fault"), IdempotencyPersistenceLayerError("away")):
        assert outcome(fail, error) is error
        assert error.__traceback__ is not None
    for error in (IdempotencyItemAlreadyExistsError("it stands"), IdempotencyItemNotFoundError("none does")):
        assert outcome(fail, error) is error
        assert error.__traceback__ is None
