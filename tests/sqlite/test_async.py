"""The asynchronous SQLite layer: its records, its loops, its threads, and what it does not load."""

from __future__ import annotations

import asyncio
import os

import pytest

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
)
from retrysafe.persistence.datarecord import INPROGRESS
from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer
from support.sqlite_support import START_MS, SetClock, claim, completed, outcome, start


class TestSQLite:
    @pytest.fixture
    def clock(self):
        return SetClock()

    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "records.db"

    def run(self, path, clock, main):
        async def with_layer():
            async with AsyncSQLitePersistenceLayer(path, synchronous="off", clock=clock) as layer:
                return await main(layer)

        return asyncio.run(with_layer())

    def test_a_call_from_claim_to_replay(self, path, clock):
        async def main(layer):
            with pytest.raises(IdempotencyItemNotFoundError):
                await layer._get_record("key")
            await layer._put_record(claim(payload_hash="h"))
            await layer._renew_record(claim(now_ms=START_MS + 1000))
            await layer._update_record(completed())
            await layer._delete_record(claim())
            with pytest.raises(IdempotencyItemAlreadyExistsError) as caught:
                await layer._put_record(claim(owner="b"))
            return caught.value.old_data_record

        assert self.run(path, clock, main) == completed(payload_hash="h")

    def test_a_late_owner_changes_nothing(self, path, clock):
        async def main(layer):
            await layer._put_record(claim())
            await layer._put_record(claim(owner="b", attempt=2, replaces=claim()))
            for late in (layer._update_record, layer._renew_record):
                with pytest.raises(IdempotencyLeaseLostError):
                    await late(completed(owner="a"))
            await layer._delete_record(claim(owner="a"))
            return await layer._get_record("key")

        assert self.run(path, clock, main) == claim(owner="b", attempt=2)

    def test_of_100_tasks_one_wins_each_key(self, path, clock):
        async def main(layer):
            async def rival(key, owner):
                try:
                    await layer._put_record(claim(key, owner))
                except IdempotencyItemAlreadyExistsError:
                    return 0
                return 1

            return [sum(await asyncio.gather(*(rival(key, str(owner)) for owner in range(100)))) for key in "abcde"]

        assert self.run(path, clock, main) == [1] * 5

    def test_it_renews_and_sweeps_and_is_judged_by_its_clock(self, path, clock):
        async def main(layer):
            assert layer.can_renew
            assert layer.clock is clock
            await layer._put_record(claim())
            clock.ms *= 2
            return [await layer.sweep(limit=5), await layer.sweep()]

        assert self.run(path, clock, main) == [1, 0]

    def test_one_object_serves_one_loop_after_another(self, path, clock):
        layer = AsyncSQLitePersistenceLayer(path, clock=clock)
        asyncio.run(layer._put_record(claim()))
        assert asyncio.run(layer._get_record("key")).stored_status == INPROGRESS
        asyncio.run(layer.close())

    def test_a_closed_layer_says_so(self, path, clock):
        async def main():
            layer = AsyncSQLitePersistenceLayer(path, clock=clock)
            await layer._put_record(claim())
            await layer.close()
            await layer.close()
            with pytest.raises(IdempotencyPersistenceConnectionError, match="was closed with its layer"):
                await layer._get_record("key")
            await layer.close()

        asyncio.run(main())

    def test_options_are_refused_as_by_the_synchronous_one(self, path):
        with pytest.raises(IdempotencyPersistenceConfigError, match="synchronous='on'"):
            AsyncSQLitePersistenceLayer(path, synchronous="on")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    def test_a_forked_child_has_threads_of_its_own(self, path):
        said = outcome(
            start(
                """
                import asyncio, os, sys, warnings
                from support.sqlite_support import *
                from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer
                warnings.simplefilter("ignore", DeprecationWarning)  # of forking among threads, as is meant
                layer = AsyncSQLitePersistenceLayer(sys.argv[1], clock=SetClock())
                asyncio.run(layer._put_record(claim("before")))
                pid = os.fork()
                if pid == 0:
                    asyncio.run(layer._put_record(claim("child")))
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
                print(asyncio.run(layer._get_record("child")).owner)
                asyncio.run(layer.close())
                """,
                path,
            )
        )
        assert said == "a\n"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("retrysafe.persistence.threads", "{'asyncio', 'sqlite3', 'concurrent'}"),
        ("retrysafe.persistence.sqlite", "{'asyncio', 'concurrent'}"),
    ],
)
def test_synchronous_callers_load_no_event_loop(module, absent):
    outcome(start(f"import sys, {module}; assert not {absent} & sys.modules.keys(), sys.modules.keys()"))


OUTLIVES_MAIN = """
    import asyncio, sys, threading, time
    from retrysafe import idempotent_function
    from retrysafe.persistence.sqlite import SQLitePersistenceLayer

    store, runs = SQLitePersistenceLayer(sys.argv[1]), []

    @idempotent_function(persistence_store=store, key_prefix="late")
    async def charge(order):
        runs.append(order)
        while threading.main_thread().is_alive():
            await asyncio.sleep(0.01)
        return order

    async def serve():
        print([await charge(order) for order in (1, 1, 2, 2)], runs)

    threading.Thread(target=asyncio.run, args=(serve(),)).start()
    while sys.argv[2] == "under way" and not runs:
        time.sleep(0.01)
"""


@pytest.mark.parametrize("then", ["under way", "not begun"])
def test_a_loop_that_outlives_the_main_thread_stores_its_answers(tmp_path, then):
    assert outcome(start(OUTLIVES_MAIN, tmp_path / "records.db", then)) == "[1, 1, 2, 2] [1, 2]\n"
