"""Calls that are interrupted or cancelled in the middle of a write: nothing is left half way."""

from __future__ import annotations

import asyncio
import functools

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, IdempotencyConfig, idempotent_function
from retrysafe.exceptions import (
    IdempotencyLeaseLostError,
    IdempotencyPersistenceLayerError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, UNAVAILABLE
from support.bodies import counted
from support.flaky import FlakyLayer
from support.flavours import LikeAStore


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
