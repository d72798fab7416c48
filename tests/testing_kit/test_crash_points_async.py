"""`crash_points` of coroutines: each await is a point as it begins to wait and when it is over; tasks die too."""

# Each line of a function here is a point of its own.
# ruff: noqa: RET504

from __future__ import annotations

import asyncio

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, MemoryPersistenceLayer, current_execution, idempotent_block
from retrysafe.testing import crash_points
from support.crashes import Provider, found, lines, protected, untouchable

WAITING = "while this line waited"
DONE = "when what this line waited for was done"


@pytest.fixture
def provider():
    return Provider()


async def post(provider, order, key=None):
    """A request whose reply comes later than its effect."""
    await asyncio.sleep(0)
    receipt = provider.charge(order, key)
    await asyncio.sleep(0)
    return receipt


def awaits(report):
    return [(point.source, point.what) for point in report.points if point.kind == "await"]


def test_each_wait_is_two_points_however_deep_it_stands(provider):
    @protected
    async def charge(order):
        await asyncio.sleep(0)
        return await post(provider, order, current_execution().key_for("charge"))

    report = crash_points(charge, "o1", effects=provider.charges, before_each=provider.reset)
    request = 'return await post(provider, order, current_execution().key_for("charge"))'
    assert (
        awaits(report)
        == [("await asyncio.sleep(0)", WAITING), ("await asyncio.sleep(0)", DONE)]
        + [
            (request, WAITING),
            (request, DONE),
        ]
        * 2
    )
    assert report.ok


def test_a_charge_whose_reply_nobody_read_doubles_at_exactly_those_waits(provider):
    @protected
    async def charge(order):
        receipt = await post(provider, order)
        return receipt

    report = crash_points(charge, "o1", effects=provider.charges)
    request = "receipt = await post(provider, order)"
    assert found(report, "ok")[3:6] == [(request, "before this line"), (request, WAITING), (request, DONE)]
    assert found(report, "doubled") == [
        (request, WAITING),
        (request, DONE),
        ("return receipt", "before this line"),
        ("return receipt", "before the answer was stored"),
    ]


def test_a_wait_that_never_gives_way_to_the_loop_is_no_point(provider):
    async def at_once():
        return "at once"

    @protected
    async def charge(order):
        provider.charge(await at_once())

    assert awaits(crash_points(charge, "o1", effects=provider.charges)) == []


def test_tasks_die_with_the_call_that_started_them(provider):
    @protected
    async def charge(order):
        async with asyncio.TaskGroup() as group:
            group.create_task(post(provider, f"{order}/1"))
            group.create_task(post(provider, f"{order}/2"))
        return "paid"

    report = crash_points(charge, "o1", effects=provider.charges)
    waits = [point for point in report.points if point.kind == "await"]
    assert [point.what for point in waits] == [WAITING, DONE]
    assert [point.when_killed for point in waits] == [{}, {"o1/1": 1, "o1/2": 1}]
    assert [point.verdict for point in waits] == ["ok", "doubled"]


def test_with_steps_of_the_file_a_death_in_a_task_is_the_death_of_all(provider):
    @protected
    async def charge(order):
        task = asyncio.create_task(post(provider, order))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        provider.charge("fee", current_execution().key_for("fee"))
        return await task

    report = crash_points(charge, "o1", effects=provider.charges, before_each=provider.reset, steps="file")
    in_the_task = [point for point in report.points if point.source == "receipt = provider.charge(order, key)"]
    assert [point.when_killed for point in in_the_task if point.kind == "line"] == [{}], "the fee is not charged"
    assert report.problems, "the charge has no key"


def test_a_death_in_a_task_is_no_cancellation_for_the_others(provider):
    async def post_and_tell(order, key, told):
        provider.charge(order, key)
        told.set()

    @protected
    async def charge(order):
        told = asyncio.Event()
        task = asyncio.create_task(post_and_tell(order, current_execution().key_for("charge"), told))
        try:
            await told.wait()
        except asyncio.CancelledError:
            provider.charge("cancelled")
            raise
        await task

    report = crash_points(charge, "o1", effects=provider.charges, before_each=provider.reset, steps="file")
    assert "told.set()" in lines(report, "ok")
    assert report.ok


def test_a_cancellation_of_the_function_s_own_passes(provider):
    @protected
    async def charge(order):
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            provider.charge(order, current_execution().key_for("charge"))
        return "paid"

    assert crash_points(charge, "o1", effects=provider.charges, before_each=provider.reset).ok


def test_locks_of_the_process_are_free_again_for_the_retry(provider):
    lock = asyncio.Lock()

    @protected
    async def charge(order):
        async with lock:
            return await post(provider, order, current_execution().key_for("charge"))

    assert crash_points(charge, "o1", effects=provider.charges, before_each=provider.reset).ok


@pytest.mark.parametrize("layer", [MemoryPersistenceLayer, AsyncMemoryPersistenceLayer])
def test_a_coroutine_takes_a_layer_of_either_kind(provider, layer):
    @protected
    async def charge(order):
        provider.charge(order)
        return "paid"

    report = crash_points(charge, "o1", effects=provider.charges, make_layer=lambda clock: layer(clock=clock))
    assert lines(report, "doubled") == ['return "paid"']


def test_a_wait_for_the_store_is_no_await_of_the_function(provider, tmp_path):
    from retrysafe.persistence.sqlite import SQLitePersistenceLayer  # noqa: PLC0415  # for this test alone

    files = []

    def make_layer(clock):
        files.append(SQLitePersistenceLayer(tmp_path / f"{len(files)}.db", clock=clock))
        return files[-1]

    @protected
    async def charge(order):
        provider.charge(order)

    async def worker(order):
        await charge(order)

    report = crash_points(worker, "o1", effects=provider.charges, make_layer=make_layer)
    assert awaits(report) == []
    assert [point.kind for point in report.points].count("store") == 4


def test_an_asynchronous_block_has_its_points(provider):
    async def worker(order):
        async with idempotent_block(order, key_prefix="block", persistence_store=untouchable()) as block:
            if block.is_first:
                provider.charge(order)
                block.answer = "paid"
        return block.answer

    report = crash_points(worker, "o1", effects=provider.charges)
    assert 'block.answer = "paid"' in lines(report, "doubled")
    assert found(report, "ok")[-1] == ("return block.answer", "before this line")


def test_where_an_event_loop_is_running_coroutines_are_refused_with_a_hint(provider):
    @protected
    async def charge(order):
        provider.charge(order)

    async def test():
        crash_points(charge, "o1", effects=provider.charges)

    with pytest.raises(ValueError, match="where none is running, in a plain") as refused:
        asyncio.run(test())
    assert isinstance(refused.value.__cause__, RuntimeError)
