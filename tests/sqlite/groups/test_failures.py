"""Writes that commit together on SQLite: one that fails fails alone, and what fails all of them is told to each."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing

from retrysafe.exceptions import (
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_groups import Together, claims, queued, stored
from support.sqlite_support import SetClock, claim, completed


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
        assert [type(end) for end in group.ends] == [IdempotencyPersistenceLayerError] * 5
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
