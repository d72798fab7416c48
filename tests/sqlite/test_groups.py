"""The SQLite layer under many threads: their writes commit together, and each ends as it would have ended alone."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import threading
import time
from contextlib import closing

import pytest

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.persistence._sqlite import groups
from retrysafe.persistence.datarecord import COMPLETED
from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer, SQLitePersistenceLayer
from support.slow_disk import Disk
from support.sqlite_support import SetClock, claim, completed, outcome, start


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.db"


@pytest.fixture
def disk():
    try:
        made = Disk()
    except RuntimeError as error:
        pytest.skip(str(error))
    with made:
        yield made


@pytest.fixture
def layer(path, disk):
    with SQLitePersistenceLayer(path, busy_timeout_seconds=30, clock=SetClock()) as made:
        made._turns = iter(range(1, 10_000, 64))  # no sweeps
        made._put_record(claim("standing"))
        disk.syncs = 0
        yield made


@pytest.fixture
def by_hand(path, layer):
    """Another program's connection to the same file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def queued(layer, count):
    """Wait until so many writes wait for their turn."""
    deadline = time.monotonic() + 30
    while len(layer._connections._groups._queue) < count:
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def nothing(*_):
    """Nothing happens."""


class Together:
    """Writes that come, one after the other, while an earlier one waits for the disk, and so wait together.

    Args:
        layer: Where to.
        disk: What it stands on.
        writes: Each as a method of the layer and a record.
        meanwhile: Called with this when all of them wait.

    Attributes:
        ends: How each ended: None while it is under way, "stored", or what it raised.
    """

    def __init__(self, layer, disk, writes, meanwhile=nothing):
        self.ends = [None] * len(writes)
        self._threads = [
            threading.Thread(target=self._carry_out, args=(number, *write)) for number, write in enumerate(writes)
        ]

        def gather():
            disk.on_sync = nothing
            for number, thread in enumerate(self._threads):
                thread.start()
                queued(layer, number + 1)
            meanwhile(self)

        disk.on_sync = gather
        first = threading.Thread(target=layer._put_record, args=(claim("under way"),))
        first.start()
        for thread in (first, *self._threads):
            thread.join()
        disk.on_sync = nothing

    def _carry_out(self, number, method, record):
        try:
            method(record)
        except Exception as error:  # noqa: BLE001  # to be looked at
            self.ends[number] = error
        else:
            self.ends[number] = "stored"


def claims(layer, count):
    return [(layer._put_record, claim(f"key{number}")) for number in range(count)]


def stored(layer, *keys):
    """Which of these keys have a record."""
    found = []
    for key in keys:
        try:
            layer._get_record(key)
        except IdempotencyItemNotFoundError:
            continue
        found.append(key)
    return found


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
        sweep = layer._statements.sweep(10, None)
        disk.syncs = 0
        group = Together(layer, disk, claims(layer, 2), lambda _: layer._connections.write_unless_locked(sweep))
        assert group.ends == ["stored"] * 2
        assert stored(layer, "gone") == []
        assert disk.syncs == 2


class TestFailures:
    def test_a_write_that_fails_fails_alone(self, layer, disk, by_hand):
        by_hand.execute(
            "CREATE TRIGGER t BEFORE INSERT ON retrysafe WHEN NEW.id = 'key2' BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        disk.syncs = 0
        group = Together(
            layer, disk, [*claims(layer, 4), (layer._update_record, completed("standing", answer='"\ud800"'))]
        )
        assert group.ends[:2] + group.ends[3:4] == ["stored"] * 3
        assert isinstance(group.ends[2], IdempotencyPersistenceLayerError)
        assert isinstance(group.ends[2].__cause__, sqlite3.IntegrityError)
        assert isinstance(group.ends[4], IdempotencyResponseUnavailableError)
        assert stored(layer, "key0", "key1", "key2", "key3") == ["key0", "key1", "key3"]
        assert disk.syncs == 2

    def test_one_that_undoes_the_whole_transaction_fails_alone_too(self, layer, disk, by_hand):
        by_hand.execute(
            "CREATE TRIGGER t BEFORE INSERT ON retrysafe WHEN NEW.id = 'key2' BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
        )
        group = Together(layer, disk, claims(layer, 5))
        assert [str(end)[:6] for end in group.ends] == ["stored", "stored", "the SQ", "stored", "stored"]
        assert stored(layer, *(f"key{number}" for number in range(5))) == ["key0", "key1", "key3", "key4"]

    def test_one_that_is_too_large_for_the_disk_fails_alone(self, layer, disk):
        writer = layer._connections._writer
        ((pages,),) = writer.execute("PRAGMA page_count").fetchall()
        writer.execute(f"PRAGMA max_page_count = {pages + 2}")
        group = Together(
            layer,
            disk,
            [*claims(layer, 2), (layer._update_record, completed("standing", answer="1" * 100_000))],
        )
        assert group.ends[:2] == ["stored"] * 2
        assert "is full" in str(group.ends[2])
        assert layer._get_record("standing") == claim("standing")

    def test_a_commit_that_fails_fails_all_that_are_in_it(self, layer, disk):
        def break_at_the_next_sync(_):
            disk.on_sync = lambda: setattr(disk, "fails_fsync", True)

        group = Together(layer, disk, claims(layer, 5), break_at_the_next_sync)
        assert {type(end) for end in group.ends} == {IdempotencyPersistenceLayerError}
        assert all("could not be read or written" in str(end) for end in group.ends)
        assert len({id(end.__cause__) for end in group.ends}) == 5  # raised in five threads
        assert stored(layer, *(f"key{number}" for number in range(5)), "under way") == ["under way"]
        disk.fails_fsync = False
        layer._put_record(claim("key0"))
        assert not layer._connections._writer.in_transaction

    def test_a_full_disk_is_told_to_each(self, layer, disk):
        group = Together(layer, disk, claims(layer, 5), lambda _: setattr(disk, "is_full", True))
        assert all("is full" in str(end) for end in group.ends)
        disk.is_full = False
        assert stored(layer, *(f"key{number}" for number in range(5))) == []
        layer._put_record(claim("key0"))

    def test_what_does_not_fit_together_is_tried_alone(self, layer, disk, monkeypatch):
        begin, alone = layer._connections.begin, layer._connections.alone

        def begin_with_little_room():
            disk.is_full = True
            return begin()

        def alone_with_room(*write):
            disk.is_full = False
            return alone(*write)

        monkeypatch.setattr(layer._connections, "begin", begin_with_little_room)
        monkeypatch.setattr(layer._connections, "alone", alone_with_room)
        assert Together(layer, disk, claims(layer, 5)).ends == ["stored"] * 5

    def test_another_program_that_keeps_the_lock_is_told_to_each_after_one_wait(self, path):
        tries, ends = [], []

        def carry_out(number):
            try:
                layer._put_record(claim(f"key{number}"))
            except IdempotencyPersistenceConnectionError as error:
                ends.append(error)

        with (
            SQLitePersistenceLayer(path, synchronous="off", busy_timeout_seconds=0.05, clock=SetClock()) as layer,
            closing(sqlite3.connect(path, isolation_level=None)) as by_hand,
        ):
            by_hand.execute("BEGIN EXCLUSIVE")
            real = layer._connections._current_writer
            layer._connections._current_writer = lambda now: tries.append(now) or real(now)
            threads = [threading.Thread(target=carry_out, args=(number,)) for number in range(8)]
            with layer._connections._writing:
                layer._connections._groups._at_work = True  # as while another thread writes
                for thread in threads:
                    thread.start()
                queued(layer, 8)
            for thread in threads:
                thread.join()
        assert len(ends) == 8
        assert all("busy_timeout_seconds=0.05" in str(end) for end in ends)
        assert len(tries) == 1

    def test_while_a_layer_is_closed_each_write_is_stored_or_told_of_it(self, layer, disk, path):
        closing_thread = threading.Thread(target=layer.close)

        def close(_):
            closing_thread.start()
            while not layer._connections._closed:
                time.sleep(0.0005)

        group = Together(layer, disk, claims(layer, 5), close)
        closing_thread.join()
        for end in group.ends:
            assert end == "stored" or "was closed with its layer" in str(end)
        with SQLitePersistenceLayer(path, clock=SetClock()) as other:
            found = stored(other, *(f"key{number}" for number in range(5)))
        assert found == [f"key{number}" for number, end in enumerate(group.ends) if end == "stored"]


class TestInterruptions:
    @pytest.mark.parametrize("begun", [False, True])
    def test_what_a_leader_that_is_torn_out_leaves_is_carried_out_by_the_others(self, layer, disk, path, begun):
        class TornOutError(BaseException):
            """As a debugger raises it in another thread."""

        real = layer._connections.begin

        def begin():
            layer._connections.begin = real
            if begun:
                real()
            raise TornOutError

        def lead(record):
            with pytest.raises(TornOutError):
                layer._put_record(record)

        layer._connections.begin = begin
        group = Together(layer, disk, [(lead, claim("key")), *claims(layer, 4)])
        assert group.ends == ["stored"] * 5
        with SQLitePersistenceLayer(path, clock=SetClock()) as other:
            assert len(stored(other, *(f"key{number}" for number in range(4)))) == 4

    def test_those_whom_nobody_wakes_look_for_themselves(self, layer, disk, monkeypatch):
        monkeypatch.setattr(groups, "_PATIENCE", 0.01)
        monkeypatch.setattr(groups, "_wake", lambda group: None)
        assert Together(layer, disk, claims(layer, 4)).ends == ["stored"] * 4

    def test_a_write_inside_a_threads_own_write_is_refused(self, layer, disk):
        refused = []

        def finalizer():
            disk.on_sync = nothing
            try:
                layer._put_record(claim("inside"))
            except IdempotencyPersistenceLayerError as error:
                refused.append(error)

        group = Together(layer, disk, claims(layer, 3), lambda _: setattr(disk, "on_sync", finalizer))
        assert len(refused) == 1
        assert group.ends == ["stored"] * 3
        assert stored(layer, "inside") == []

    def test_an_interrupted_main_thread_costs_the_others_nothing(self, path):
        if not hasattr(signal, "setitimer"):
            pytest.skip("no timer signals here")
        said = outcome(
            start(
                """
                import signal, sys, threading
                from support.sqlite_support import *
                from retrysafe.persistence.sqlite import SQLitePersistenceLayer
                layer = SQLitePersistenceLayer(sys.argv[1], busy_timeout_seconds=60, clock=SetClock())
                stopped = threading.Event()
                acknowledged, errors = [], []

                def work(name):
                    number = 0
                    try:
                        while not stopped.is_set():
                            layer._put_record(claim(f"{name}.{number}"))
                            layer._update_record(completed(f"{name}.{number}"))
                            acknowledged.append(f"{name}.{number}")
                            number += 1
                    except BaseException as error:
                        errors.append(error)

                def interrupt(*_):
                    raise KeyboardInterrupt

                signal.signal(signal.SIGALRM, interrupt)
                threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
                for thread in threads:
                    thread.start()
                interrupts = number = 0
                while interrupts < 100 or len(acknowledged) <= 100:
                    try:
                        signal.setitimer(signal.ITIMER_REAL, 0.001 + 0.0001 * (interrupts % 20))
                        while True:
                            number += 1
                            layer._put_record(claim(f"main.{number}"))
                            acknowledged.append(f"main.{number}")
                    except KeyboardInterrupt:
                        interrupts += 1
                signal.setitimer(signal.ITIMER_REAL, 0)
                stopped.set()
                for thread in threads:
                    thread.join()
                for key in acknowledged:
                    layer._get_record(key)
                assert not layer._connections._writer.in_transaction
                layer.close()
                print(errors, len(acknowledged) > 100)
                """,
                path,
            )
        )
        assert said == "[] True\n"


def test_what_was_acknowledged_to_any_of_many_threads_outlives_a_killed_process(path):
    victim = start(
        """
        import os, sys, threading
        from support.sqlite_support import *
        from retrysafe.persistence.sqlite import SQLitePersistenceLayer
        layer = SQLitePersistenceLayer(sys.argv[1], busy_timeout_seconds=60, clock=SetClock())

        def work(name):
            for number in range(100_000):
                layer._put_record(claim(f"{name}.{number}"))
                layer._update_record(completed(f"{name}.{number}"))
                os.write(1, f"{name}.{number}\\n".encode())

        for name in range(16):
            threading.Thread(target=work, args=(name,)).start()
        """,
        path,
    )
    acknowledged = [victim.stdout.readline() for _ in range(300)]
    victim.kill()
    out, err = victim.communicate(timeout=60)
    assert err == ""
    acknowledged += [line for line in out.splitlines(keepends=True) if line.endswith("\n")]
    with SQLitePersistenceLayer(path, clock=SetClock()) as layer:
        for line in acknowledged:
            assert layer._get_record(line.strip()).stored_status == COMPLETED
    with closing(sqlite3.connect(path)) as by_hand:
        assert by_hand.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


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
