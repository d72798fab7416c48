"""Writes of many threads on SQLite commit together, and each ends as it would have ended alone; tasks share reads."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing

from retrysafe.exceptions import IdempotencyItemAlreadyExistsError, IdempotencyLeaseLostError
from retrysafe.persistence._sqlite import groups
from retrysafe.persistence.datarecord import COMPLETED
from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer
from support.sqlite_groups import Together, claims, nothing, queued, stored
from support.sqlite_support import SetClock, claim, completed


class TestOneCommit:
    def test_writes_that_wait_together_wait_for_the_disk_once(self, layer, disk):
        layer._put_record(claim("to complete"))
        layer._put_record(claim("to renew"))
        layer._put_record(claim("to release"))
        disk.syncs = 0
        group = Together(
            layer,
            disk,
            [
                *claims(layer, 20),
                (layer._update_record, completed("to complete")),
                (layer._renew_record, claim("to renew", lease_ms=90_000)),
                (layer._delete_record, claim("to release")),
            ],
        )
        assert group.ends == ["stored"] * 23
        assert disk.syncs == 2  # the first one's, and theirs
        assert len(stored(layer, *(f"key{number}" for number in range(20)))) == 20
        assert layer._get_record("to complete").stored_status == COMPLETED
        assert layer._get_record("to renew") == claim("to renew", lease_ms=90_000)
        assert stored(layer, "to release") == []

    def test_nobody_has_an_answer_before_the_disk_has_the_write(self, layer, disk, path):
        at_sync = []

        def watch_the_next_sync(group):
            disk.on_sync = lambda: at_sync.append((group.ends.copy(), keys_seen_by_others()))

        def keys_seen_by_others():
            with closing(sqlite3.connect(path)) as other:
                return other.execute("SELECT count(*) FROM retrysafe WHERE id LIKE 'key%'").fetchone()[0]

        group = Together(layer, disk, claims(layer, 5), watch_the_next_sync)
        assert at_sync == [([None] * 5, 0)]
        assert group.ends == ["stored"] * 5
        assert keys_seen_by_others() == 5

    def test_each_caller_gets_its_own_outcome(self, layer, disk):
        layer._put_record(claim("mine", owner="me"))
        group = Together(
            layer,
            disk,
            [
                (layer._put_record, claim("key", owner="a")),
                (layer._put_record, claim("key", owner="b")),
                (layer._update_record, completed("mine", owner="another")),
                (layer._update_record, completed("mine", owner="me")),
                (layer._renew_record, claim("mine", owner="me")),
            ],
        )
        won, lost, late, done, renewed = group.ends
        assert won == done == "stored"
        assert isinstance(lost, IdempotencyItemAlreadyExistsError)
        assert lost.old_data_record == claim("key", owner="a")
        assert isinstance(late, IdempotencyLeaseLostError)
        assert isinstance(renewed, IdempotencyLeaseLostError)  # as the one before it completed the record

    def test_a_group_is_bounded(self, layer, disk, monkeypatch):
        monkeypatch.setattr(groups, "_LARGEST_GROUP", 4)
        assert Together(layer, disk, claims(layer, 10)).ends == ["stored"] * 10
        assert disk.syncs == 1 + 3

    def test_whoever_comes_alone_is_carried_out_alone(self, layer):
        seen = []
        layer._connections._writer.set_trace_callback(lambda sql: seen.append(sql.split()[0]))
        thread = threading.Thread(target=layer._put_record, args=(claim(),))
        thread.start()
        thread.join()
        assert seen == ["INSERT"]

    def test_asynchronous_callers_commit_together_too(self, path, disk):
        async def main():
            layer = AsyncSQLitePersistenceLayer(path, clock=SetClock())
            try:
                await layer._put_record(claim())
                layer._sqlite._turns = iter(range(1, 10_000, 64))

                def gather():
                    disk.on_sync = nothing
                    queued(layer._sqlite, 11)

                disk.syncs, disk.on_sync = 0, gather
                await asyncio.gather(*(layer._put_record(claim(f"key{number}")) for number in range(12)))
                assert disk.syncs == 2
            finally:
                await layer.close()

        asyncio.run(main())

    def test_a_sweep_goes_with_those_who_wait_and_keeps_nobody(self, layer, disk):
        layer._put_record(completed("gone", window_s=-10))
        sweep, statements = layer._statements.sweep(10, None), []
        layer._connections._writer.set_trace_callback(statements.append)
        disk.syncs = 0
        group = Together(layer, disk, claims(layer, 2), lambda _: layer._connections.write_unless_locked(sweep))
        assert group.ends == ["stored"] * 2
        assert stored(layer, "gone") == []
        assert sum("DELETE" in statement for statement in statements) == 1
        assert disk.syncs == 2


def test_tasks_that_ask_at_the_same_time_share_a_read(path):
    async def main():
        layer = AsyncSQLitePersistenceLayer(path, synchronous="off", clock=SetClock())
        try:
            await layer._put_record(claim())
            reads = []
            (reader,) = layer._sqlite._connections._readers
            reader.set_trace_callback(reads.append)
            found = await asyncio.gather(*(layer._get_record("key") for _ in range(50)))
            assert found == [claim()] * 50
            assert len(reads) == 1
        finally:
            await layer.close()

    asyncio.run(main())
