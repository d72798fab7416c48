"""Reads that many ask for at once: shared, but never by one who asked after it was sent."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest

from retrysafe.persistence import _shared_reads
from retrysafe.persistence._shared_reads import AsyncSharedReads, SharedReads


class Gate:
    """A store whose reads wait to be let through; each answers with its number."""

    def __init__(self):
        self.reads = 0
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.error = None

    def read(self, key):
        self.reads += 1
        number = self.reads
        self.begun.release()
        assert self.go.acquire(timeout=30)
        if self.error is not None:
            raise self.error
        return key, number


class Asker(threading.Thread):
    def __init__(self, reads, key="order"):
        super().__init__(daemon=True)
        self.reads, self.key = reads, key
        self.answer = None
        self.start()

    def run(self):
        try:
            self.answer = self.reads.read(self.key)
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            self.answer = error

    def answered(self):
        self.join(30)
        assert not self.is_alive()
        return self.answer


def in_line(reads, count):
    """Wait until so many wait for the turn that is to come; only its event knows."""
    while len(reads._last["order"].done._cond._waiters) < count:
        time.sleep(0.001)


def test_those_who_ask_while_a_read_is_under_way_share_the_next_one():
    gate = Gate()
    reads = SharedReads(gate.read)
    first = Asker(reads)
    gate.begun.acquire(timeout=30)
    later = [Asker(reads) for _ in range(50)]
    in_line(reads, 49)
    gate.go.release()
    assert first.answered() == ("order", 1)
    gate.go.release()
    assert {asker.answered() for asker in later} == {("order", 2)}
    assert gate.reads == 2
    assert reads._last == {}


def test_one_after_the_other_each_reads():
    gate = Gate()
    reads = SharedReads(gate.read)
    gate.go.release(2)
    assert [reads.read("order"), reads.read("order")] == [("order", 1), ("order", 2)]


def test_different_keys_are_read_apart():
    gate = Gate()
    reads = SharedReads(gate.read)
    askers = [Asker(reads, f"order {number}") for number in range(5)]
    for _ in askers:
        assert gate.begun.acquire(timeout=30)
    gate.go.release(5)
    assert sorted(asker.answered()[0] for asker in askers) == [f"order {number}" for number in range(5)]


def test_what_a_read_raises_is_raised_to_all_who_share_it():
    gate = Gate()
    gate.error = ConnectionError("gone")
    reads = SharedReads(gate.read)
    first = Asker(reads)
    gate.begun.acquire(timeout=30)
    later = [Asker(reads) for _ in range(10)]
    in_line(reads, 9)
    gate.go.release(2)
    assert [asker.answered() for asker in (first, *later)] == [gate.error] * 11
    assert gate.reads == 2


def test_who_shares_a_read_that_is_interrupted_reads_again():
    gate = Gate()
    gate.error = KeyboardInterrupt()
    reads = SharedReads(gate.read)
    first = Asker(reads)
    gate.begun.acquire(timeout=30)
    later = [Asker(reads) for _ in range(10)]
    in_line(reads, 9)
    gate.go.release()
    assert first.answered() is gate.error
    gate.begun.acquire(timeout=30)
    gate.go.release()
    while sum(isinstance(asker.answer, KeyboardInterrupt) for asker in later) < 1:
        later[0].join(0.001)
    gate.error = None
    gate.go.release(10)
    answers = [asker.answered() for asker in later]
    assert sum(answer == ("order", 3) for answer in answers) >= 1
    assert sum(isinstance(answer, KeyboardInterrupt) for answer in answers) == 1


def test_who_was_to_share_a_read_that_never_comes_reads_alone(monkeypatch):
    monkeypatch.setattr(_shared_reads, "PATIENCE", 0.01)
    reads = SharedReads(lambda key: "read")
    reads._last["order"] = _shared_reads._Turn(None)  # whoever was to read was torn away before it began
    assert reads.read("order") == "read"
    assert reads._last == {}


# --- asynchronous --------------------------------------------------------------------------------------------------


def run(check):
    asyncio.run(asyncio.wait_for(check, 30))


class AsyncGate:
    def __init__(self):
        self.reads = 0
        self.begun = asyncio.Semaphore(0)
        self.go = asyncio.Semaphore(0)
        self.error = None

    async def read(self, key):
        self.reads += 1
        number = self.reads
        self.begun.release()
        await self.go.acquire()
        if self.error is not None:
            raise self.error
        return key, number


def test_tasks_share_likewise():
    async def check():
        gate = AsyncGate()
        reads = AsyncSharedReads(gate.read)
        first = asyncio.create_task(reads.read("order"))
        await gate.begun.acquire()
        later = [asyncio.create_task(reads.read("order")) for _ in range(1000)]
        await asyncio.sleep(0)
        gate.go.release()
        gate.go.release()
        assert await first == ("order", 1)
        assert set(await asyncio.gather(*later)) == {("order", 2)}
        assert reads._last == {}

    run(check())


def test_a_cancelled_task_takes_no_other_with_it():
    async def check():
        gate = AsyncGate()
        reads = AsyncSharedReads(gate.read)
        tasks = [asyncio.create_task(reads.read("order")) for _ in range(3)]
        await gate.begun.acquire()
        tasks[0].cancel()
        await asyncio.wait((tasks[0],))
        assert tasks[0].cancelled()
        gate.go.release()
        assert await asyncio.gather(*tasks[1:]) == [("order", 1)] * 2

    run(check())


def test_a_read_that_nobody_waits_for_any_more_fails_silently():
    async def check():
        complaints = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        gate = AsyncGate()
        gate.error = ConnectionError("gone")
        reads = AsyncSharedReads(gate.read)
        task = asyncio.create_task(reads.read("order"))
        await gate.begun.acquire()
        task.cancel()
        await asyncio.wait((task,))
        gate.go.release()
        for _ in range(5):
            await asyncio.sleep(0)
        assert reads._last == {}
        del task, gate, reads  # the last that hold the read's task, which complains when it goes
        gc.collect()
        assert complaints == []

    run(check())


def test_errors_are_shared_among_tasks():
    async def check():
        gate = AsyncGate()
        gate.error = ConnectionError("gone")
        reads = AsyncSharedReads(gate.read)
        tasks = [asyncio.create_task(reads.read("order")) for _ in range(10)]
        gate.go.release()
        assert await asyncio.gather(*tasks, return_exceptions=True) == [gate.error] * 10

    run(check())


def test_each_event_loop_reads_for_itself():
    numbers = iter(range(10))

    async def read(key):
        await asyncio.sleep(0)
        return next(numbers)

    reads = AsyncSharedReads(read)
    assert [asyncio.run(reads.read("order")) for _ in range(3)] == [0, 1, 2]
    loop = asyncio.new_event_loop()
    left_behind = loop.create_task(reads.read("order"))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert asyncio.run(reads.read("order")) in (3, 4)
    loop.run_until_complete(left_behind)
    loop.close()


@pytest.fixture(autouse=True)
def _no_thread_is_left_in_line():
    yield
    assert not [thread for thread in threading.enumerate() if isinstance(thread, Asker)]
