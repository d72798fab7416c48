"""The `with` form."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    current_execution,
    idempotent_block,
)
from retrysafe.exceptions import IdempotencyAlreadyInProgressError, IdempotencyConfigError, IdempotencyLeaseLostError
from retrysafe.persistence.datarecord import COMPLETED
from support.bodies import plant


def test_a_block_does_its_work_once_and_gives_the_same_answer_again(flavour):
    layer = flavour.layer()
    runs = []

    def work():
        runs.append(current_execution().attempt)
        return {"n": (len(runs),)}

    answers = [flavour.block({"id": 1}, work, key_prefix="charge", persistence_store=layer) for _ in range(2)]
    assert answers == [{"n": (1,)}, {"n": (1,)}]
    assert runs == [1]


def test_an_exception_frees_the_key(flavour):
    layer = flavour.layer()

    def failing():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        flavour.block(1, failing, key_prefix="charge", persistence_store=layer)
    assert flavour.block(1, lambda: 2, key_prefix="charge", persistence_store=layer) == 2


def test_a_failure_that_is_an_answer_is_raised_again_where_the_block_begins(flavour):
    layer = flavour.layer()
    runs = []

    def declined():
        runs.append(1)
        raise LookupError("51")

    config = IdempotencyConfig(replay_exceptions=[LookupError])
    for _ in range(2):
        with pytest.raises(LookupError, match="51"):
            flavour.block(1, declined, key_prefix="charge", persistence_store=layer, config=config)
    assert len(runs) == 1


def test_a_block_whose_key_has_passed_to_another_call_says_so_where_it_is_left(flavour):
    layer = flavour.layer()

    def work():
        plant(flavour, layer, owner="other")
        return "mine"

    with pytest.raises(IdempotencyLeaseLostError) as lost:
        flavour.block(1, work, key_prefix="charge", persistence_store=layer)
    assert (lost.value.response, lost.value.record.owner) == ("mine", "other")


def test_a_second_block_inside_the_first_is_refused():
    layer = MemoryPersistenceLayer()
    with (
        idempotent_block(1, key_prefix="charge", persistence_store=layer),
        pytest.raises(IdempotencyAlreadyInProgressError),
        idempotent_block(1, key_prefix="charge", persistence_store=layer),
    ):
        pass


def test_work_done_in_spite_of_an_answer_at_hand_is_told():
    layer = MemoryPersistenceLayer()
    for _ in range(2):
        with idempotent_block(1, key_prefix="charge", persistence_store=layer) as block:
            if block.is_first:
                block.answer = 1
    with pytest.raises(IdempotencyConfigError, match="is_first"):
        block.answer = 2
    assert block.answer == 1


def test_an_answer_that_nothing_would_store_is_refused():
    layer = MemoryPersistenceLayer()
    block = idempotent_block(1, key_prefix="charge", persistence_store=layer)
    with pytest.raises(IdempotencyConfigError, match="outside of it"):
        block.answer = "early"
    with block:
        block.answer = "in time"
        with pytest.raises(AttributeError, match="answr"):
            block.answr = "misspelt"
    with pytest.raises(IdempotencyConfigError, match="outside of it"):
        block.answer = "late"
    assert block.answer == "in time"

    async def entered() -> None:
        again = idempotent_block(2, key_prefix="charge", persistence_store=AsyncMemoryPersistenceLayer())
        async with again:
            again.answer = "in time"
        with pytest.raises(IdempotencyConfigError, match="outside of it"):
            again.answer = "late"

    asyncio.run(entered())


def test_a_payload_without_a_key_runs_unprotected_with_a_warning(flavour):
    for _ in range(2):
        with pytest.warns(UserWarning, match="no idempotency key"):
            flavour.block(None, lambda: 3, key_prefix="charge", persistence_store=flavour.layer())


def test_a_block_runs_unprotected_where_idempotency_is_switched_off(flavour, monkeypatch):
    monkeypatch.setenv("RETRYSAFE_DISABLED", "1")
    layer = flavour.layer()
    answers = []
    for n in range(2):
        with pytest.warns(UserWarning, match="RETRYSAFE_DISABLED"):
            answers.append(flavour.block(1, lambda n=n: n, key_prefix="charge", persistence_store=layer))
    assert answers == [0, 1]


def test_an_asynchronous_layer_needs_async_with():
    with (
        pytest.raises(IdempotencyConfigError, match="async with"),
        idempotent_block(1, key_prefix="charge", persistence_store=AsyncMemoryPersistenceLayer()),
    ):
        pass


def test_a_block_that_is_cancelled_frees_the_key():
    async def main():
        layer = AsyncMemoryPersistenceLayer()
        inside = asyncio.Event()

        async def work():
            async with idempotent_block(1, key_prefix="charge", persistence_store=layer):
                inside.set()
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(layer)

    assert asyncio.run(main()) == 0


def test_a_block_may_end_in_another_thread_than_it_began_in():
    layer = MemoryPersistenceLayer()

    @contextlib.contextmanager
    def dependency():
        with idempotent_block(1, key_prefix="charge", persistence_store=layer) as block:
            if block.is_first:
                block.answer = 7
            yield block

    async def main():
        manager = dependency()
        await asyncio.to_thread(manager.__enter__)
        await asyncio.to_thread(manager.__exit__, None, None, None)

    asyncio.run(main())
    assert [record.stored_status for record in layer._records.values()] == [COMPLETED]


def test_a_run_that_is_over_is_nobodys_current_one():
    layer = MemoryPersistenceLayer()
    blocks = [idempotent_block(n, key_prefix="charge", persistence_store=layer) for n in range(2)]
    for block in blocks:
        block.__enter__()
    for block in blocks:  # in the order in which they began, as generators end
        block.__exit__(None, None, None)
    with pytest.raises(IdempotencyConfigError, match="outside"):
        current_execution()


def test_a_block_object_can_be_entered_again_and_starts_anew(clock):
    layer = MemoryPersistenceLayer(clock=clock)
    config = IdempotencyConfig(expires_after_seconds=1)
    block = idempotent_block(1, key_prefix="charge", persistence_store=layer, config=config)
    with contextlib.suppress(ValueError), block:
        block.answer = 41
        raise ValueError
    with block:
        assert (block.is_first, block.answer) == (True, None)
        block.answer = 42
    with block:
        assert (block.is_first, block.answer) == (False, 42)
    clock.advance(5)
    with block:
        assert (block.is_first, block.answer) == (True, None)
        with pytest.raises(IdempotencyConfigError, match="entered already"), block:
            pass
