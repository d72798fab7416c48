"""The memory layer: what is over goes, bit by bit, and nothing else does."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    DataRecord,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    idempotent_function,
)
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from retrysafe.persistence.memory import SWEPT_AT_ONCE


@pytest.fixture
def layer(clock):
    return MemoryPersistenceLayer(clock=clock)


def test_what_is_not_over_though_its_window_is_stays_too(layer, clock):
    """A run whose lease outlasts its window, what a later version wrote, and what has no window at all."""
    long_ago_s, now_ms = clock.now_ms() // 1000 - 60, clock.now_ms()
    standing = [
        DataRecord("runs", INPROGRESS, long_ago_s, now_ms + 60_000, owner="own"),
        DataRecord("of a later version", "PAUSED", long_ago_s),
        DataRecord("for ever", COMPLETED),
    ]
    for record in (*standing, DataRecord("over", COMPLETED, long_ago_s)):
        layer._put_record(record)
    call = idempotent_function(lambda n: n, persistence_store=layer)
    for n in range(100):
        call(n)
    assert [layer._get_record(record.idempotency_key) for record in standing] == standing
    assert len(layer) == 103


@pytest.mark.parametrize("kind", [MemoryPersistenceLayer, AsyncMemoryPersistenceLayer])
def test_an_empty_layer_is_a_layer_all_the_same(kind):
    assert kind()
    assert len(kind()) == 0


@pytest.mark.parametrize("kind", [MemoryPersistenceLayer, AsyncMemoryPersistenceLayer])
def test_what_stands_can_be_told_without_a_claim(kind, clock):
    class Claimed(kind):
        def _put_record(self, data_record):
            claims.append(data_record)
            return super()._put_record(data_record)

    async def charge_async(n):
        return n

    claims, layer = [], Claimed(clock=clock)
    function = (lambda n: n) if kind is MemoryPersistenceLayer else charge_async
    call = idempotent_function(function, persistence_store=layer, key_prefix="told")
    answers = [call(1) if kind is MemoryPersistenceLayer else asyncio.run(call(1)) for _ in range(3)]
    assert answers == [1, 1, 1]
    assert len(claims) == 1


def test_what_is_over_is_swept_by_later_writes_a_few_at_a_time(layer, clock):
    old = idempotent_function(lambda n: n, persistence_store=layer, config=IdempotencyConfig(expires_after_seconds=10))
    for n in range(100):
        old(n)
    clock.advance(12)
    sizes = []
    new = idempotent_function(lambda n: -n, persistence_store=layer, key_prefix="new")
    for n in range(100):
        before = len(layer)
        new(n)
        sizes.append(before + 1 - len(layer))
    assert max(sizes) <= SWEPT_AT_ONCE <= 16, "one call sweeps a few records only"
    assert len(layer) == 100
    assert all(key.startswith("new#") for key in layer._records)


def test_records_that_live_stay_however_many_are_written(layer, clock):
    kept = idempotent_function(
        lambda n: n, persistence_store=layer, config=IdempotencyConfig(expires_after_seconds=10**6)
    )
    kept(0)
    short = idempotent_function(
        lambda n: n, persistence_store=layer, key_prefix="short", config=IdempotencyConfig(expires_after_seconds=1)
    )
    for n in range(500):
        short(n)
        clock.advance(1)
    assert len(layer) < 20
    assert kept(0) == 0
    assert sum("short" not in key for key in layer._records) == 1


def test_nor_do_they_keep_what_is_over_behind_them(layer, clock):
    lasting = idempotent_function(lambda n: n, persistence_store=layer, key_prefix="lasting")
    brief = idempotent_function(
        lambda n: n, persistence_store=layer, key_prefix="brief", config=IdempotencyConfig(expires_after_seconds=10)
    )
    for n in range(2 * SWEPT_AT_ONCE):
        lasting(n)
    for n in range(100):
        brief(n)
    clock.advance(12)
    for n in range(200):
        lasting(-1 - n)
    assert len(layer) == 2 * SWEPT_AT_ONCE + 200


def test_failed_runs_leave_nothing_behind(layer):
    def failing(n):
        raise ValueError

    call = idempotent_function(failing, persistence_store=layer)
    for n in range(50):
        with pytest.raises(ValueError):  # noqa: PT011  # what the body raises
            call(n)
    assert len(layer) == 0


@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="no signals to handle here")
@pytest.mark.parametrize("item", ["other", "same"])
@pytest.mark.parametrize("cache", [False, True], ids=["layer alone", "with local cache"])
def test_a_signal_handler_may_make_calls_of_its_own(item, cache):
    """It comes while the call below holds the lock: of the local cache, or else of the layer."""
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED), item, str(cache)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "answer",
        {"other": "['same', 'other', 'same']", "same": "['same', 'same']"}[item],
    ]


INTERRUPTED = """
    import signal, sys
    from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_function
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.testing import ManualClock

    item, cache = sys.argv[1:]
    clock, ran = ManualClock(), []
    config = IdempotencyConfig(
        expires_after_seconds=10, use_local_cache=cache == "True", on_in_progress="wait", wait_timeout_seconds=1
    )

    @idempotent_function(persistence_store=MemoryPersistenceLayer(clock=clock), key_prefix="signal", config=config)
    def call(item):
        ran.append(item)
        return "answer"

    call("same")
    clock.advance(12)
    window_over = DataRecord.window_over

    def interrupted(record, now_ms):
        if sys._getframe(1).f_code.co_name == ("get" if cache == "True" else "_put_record"):
            DataRecord.window_over = window_over
            signal.raise_signal(signal.SIGUSR1)
        return window_over(record, now_ms)

    signal.signal(signal.SIGUSR1, lambda *_: call(item))
    signal.alarm(20)  # what hangs is killed
    DataRecord.window_over = interrupted
    print(call("same"))
    print(ran)
"""
