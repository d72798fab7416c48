"""What a server has no room for: a claim is refused before the function runs, and no answer is lost after."""

from __future__ import annotations

from collections import deque

import pytest

from retrysafe import DataRecord, IdempotencyConfig, idempotent_function, layer_from_url
from retrysafe.exceptions import (
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.persistence._cache.large_answers import large_outcome
from retrysafe.persistence.datarecord import COMPLETED
from servers import RedisServer, programs, wait_until
from support.cache_callers import WAYS, Caller

# --- memory -----------------------------------------------------------------------------------------------------------


def test_without_memory_a_claim_is_refused_before_the_function_runs(any_server):
    any_server.command("CONFIG", "SET", "maxmemory", "100kb")
    for way in WAYS:
        Caller(way).refused(any_server.url, IdempotencyPersistenceLayerError, r"has no memory left \(maxmemory\)")
    assert any_server.command("DBSIZE") == 0


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_memory_that_ends_while_the_function_runs_loses_no_answer(any_server, size):
    def answer():
        any_server.command("CONFIG", "SET", "maxmemory", "100kb")
        return "x" * size

    call = Caller("redis")
    assert call(any_server.url, answer=answer) == "x" * size
    assert call(any_server.url) == "x" * size
    assert call.ran == [1]


def test_memory_that_ends_while_the_function_runs_stops_no_heartbeat(any_server):
    with layer_from_url(any_server.url) as layer:

        @idempotent_function(
            persistence_store=layer, config=IdempotencyConfig(in_progress_expires_after_seconds=0.3), key_prefix="p"
        )
        def work(order):
            any_server.command("CONFIG", "SET", "maxmemory", "100kb")
            (key,) = any_server.command("KEYS", "*")
            before = any_server.command("GET", key)
            wait_until(lambda: any_server.command("GET", key) != before, "a renewed lease")
            return "done"

        assert [work(1), work(1)] == ["done", "done"]


# --- large answers ----------------------------------------------------------------------------------------------------


LOST = IdempotencyPersistenceConnectionError("the connection was lost")


@pytest.mark.parametrize("size", [1_100_000, 9_000_000])
def test_an_answer_that_the_server_takes_in_no_case_is_done_without_one(call, start, size):
    server = start(RedisServer(programs.valkey_91(), options={"proto-max-bulk-len": "1mb"}))
    assert call(server.url, answer="x" * size) == "x" * size
    with pytest.raises(IdempotencyResponseUnavailableError, match="cannot be given again"):
        call(server.url)
    assert call.ran == [1]


def test_so_is_one_where_the_look_at_what_stands_meets_the_lost_connection_first():
    """As with asyncio's clients from Python 3.12 on, whose connection stays open with what it could not send."""
    looks = iter([LOST, None, LOST, None])

    def step(outcome):
        yield
        if outcome is LOST:
            raise LOST
        return outcome

    record = DataRecord("orders#1", COMPLETED, response_data="x" * 9_000_000, owner="me")
    steps = large_outcome(record, lambda: step(LOST), lambda: step(next(looks)))
    with pytest.raises(IdempotencyResponseUnavailableError, match="lost the connection twice over"):
        deque(steps)
    assert list(looks) == []


def test_a_large_answer_that_the_server_takes_is_replayed(call, redis_62):
    redis_62.command("FLUSHALL")
    url = f"{redis_62.url}?socket_timeout=60"
    assert [call(url, answer="x" * 9_000_000) for _ in range(2)] == ["x" * 9_000_000] * 2
    assert call.ran == [1]
