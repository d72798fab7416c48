"""What a layer of one's own does wrong runs nothing: where it can be told, it is refused before a call."""

from __future__ import annotations

import asyncio

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    BasePersistenceLayer,
    DataRecord,
    MemoryPersistenceLayer,
    idempotent_batch,
    idempotent_function,
)
from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConsistencyError,
)

METHODS = ["_get_record", "_put_record", "_update_record", "_delete_record", "_renew_record", "_for_each"]


async def awaited(self, *arguments):
    raise AssertionError


@pytest.mark.parametrize("method", METHODS)
def test_a_synchronous_layer_with_a_method_that_nobody_would_await_is_refused_when_it_is_defined(method):
    with pytest.raises(IdempotencyPersistenceConfigError, match=f"Mistaken has {method}.*AsyncBasePersistenceLayer"):
        type("Mistaken", (MemoryPersistenceLayer,), {method: awaited})


def test_so_is_one_that_inherits_such_a_method_from_beside():
    class Beside:
        _put_record = awaited

    with pytest.raises(IdempotencyPersistenceConfigError, match="Mistaken has _put_record"):
        type("Mistaken", (Beside, BasePersistenceLayer), {})


class PeersRecord:
    """As `DataRecord` of another library: the layer was moved over, and one import was left behind."""

    status = "INPROGRESS"


@pytest.mark.parametrize("told", [PeersRecord(), {"status": "COMPLETED"}, False], ids=lambda told: type(told).__name__)
@pytest.mark.parametrize("by", ["the refusal", "a look"])
def test_a_refused_claim_runs_nothing_whatever_the_layer_tells_to_stand_there(by, told):
    ran = []

    class Telling(MemoryPersistenceLayer):
        def _peek_record(self, idempotency_key):
            return None

        def _put_record(self, data_record):
            raise IdempotencyItemAlreadyExistsError(old_data_record=told if by == "the refusal" else None)

        def _get_record(self, idempotency_key):
            return told

    class AsyncTelling(AsyncMemoryPersistenceLayer):
        def _peek_record(self, idempotency_key):
            return None

        async def _put_record(self, data_record):
            raise IdempotencyItemAlreadyExistsError(old_data_record=told if by == "the refusal" else None)

        async def _get_record(self, idempotency_key):
            return told

    @idempotent_function(persistence_store=Telling(), key_prefix="telling")
    def charge(order):
        ran.append(order)

    @idempotent_function(persistence_store=AsyncTelling(), key_prefix="telling")
    async def charge_async(order):
        ran.append(order)

    @idempotent_batch(persistence_store=Telling(), key_prefix="telling")
    def charge_each(order):
        ran.append(order)

    with pytest.raises(IdempotencyPersistenceConsistencyError, match=f"{type(told).__name__} in place of"):
        charge(1)
    with pytest.raises(IdempotencyPersistenceConsistencyError, match=f"{type(told).__name__} in place of"):
        asyncio.run(charge_async(1))
    assert [type(each.error) for each in charge_each([1, 2])] == [IdempotencyPersistenceConsistencyError] * 2
    assert ran == []


class TellingGarbage(MemoryPersistenceLayer):
    """Reads its records from text, and what is stored under one of them has been damaged."""

    def _peek_record(self, idempotency_key):
        return None

    def _put_record(self, data_record):
        if len(self) == 2:
            damaged = data_record.replaced(expiry_timestamp="soon")
            raise IdempotencyItemAlreadyExistsError(old_data_record=damaged)
        super()._put_record(data_record)


@pytest.mark.parametrize("at_once", [1, 100])
def test_a_record_that_cannot_be_read_hinders_no_other_item_of_a_batch(at_once):
    ran = []

    @idempotent_batch(persistence_store=TellingGarbage(), key_prefix="garbage", claimed_at_once=at_once)
    def charge(order):
        ran.append(order)
        return order

    result = charge([1, 2, 3])
    assert [each.status for each in result] == ["returned", "returned", "raised"]
    assert isinstance(result[2].error, IdempotencyPersistenceConsistencyError)
    assert isinstance(result[2].error.__cause__, TypeError)
    assert ran == [1, 2]


def test_a_layer_tells_that_nothing_stands_there_by_none_too():
    class ByNone(MemoryPersistenceLayer):
        def _get_record(self, idempotency_key) -> DataRecord:
            return self._records.get(idempotency_key)  # type: ignore[return-value]  # that is the test

    charge = idempotent_function(lambda order: order, persistence_store=ByNone(), key_prefix="by none")
    assert charge(1) == charge(1) == 1
