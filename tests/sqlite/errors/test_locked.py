"""An SQLite database that another program keeps locked: writes wait as long as they may, and then say so."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing

import pytest

from retrysafe.exceptions import IdempotencyPersistenceConnectionError
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_failures import writes
from support.sqlite_support import SetClock, claim, completed


class TestLocked:
    @pytest.fixture
    def pauses(self, by_hand, monkeypatch):
        """How long each look for a turn waits; the database is let go at the 200th."""
        pauses = []

        def look_later(seconds):
            pauses.append(seconds)
            if len(pauses) == 200:
                by_hand.execute("ROLLBACK")

        monkeypatch.setattr("retrysafe.persistence._sqlite.turns.sleep", look_later)
        return pauses

    def test_a_write_gives_up_after_the_busy_timeout(self, layer, by_hand, path):
        by_hand.execute("BEGIN EXCLUSIVE")
        for method, argument in writes(layer):
            with pytest.raises(IdempotencyPersistenceConnectionError, match=r"busy_timeout_seconds=0\.05") as caught:
                method(argument)
            assert str(path) in str(caught.value)
            assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        by_hand.execute("ROLLBACK")
        layer._update_record(completed())

    def test_a_write_that_has_waited_for_long_looks_for_its_turn_as_often_as_others(self, path, by_hand, pauses):
        with SQLitePersistenceLayer(path, busy_timeout_seconds=60, clock=SetClock()) as layer:
            by_hand.execute("BEGIN EXCLUSIVE")
            layer._update_record(completed())
        assert len(pauses) == 200
        assert max(pauses) <= 0.001

    def test_so_does_one_that_is_made(self, layer, path, by_hand, pauses):
        by_hand.execute("BEGIN EXCLUSIVE")
        SQLitePersistenceLayer(path, busy_timeout_seconds=5).close()
        assert len(pauses) == 200
        assert max(pauses) <= 0.001

    def test_reading_goes_on(self, layer, by_hand):
        by_hand.execute("BEGIN EXCLUSIVE")
        assert layer._get_record("key") == claim()

    def test_threads_that_stand_behind_each_other_do_not_wait_one_after_the_other(self, layer, by_hand):
        by_hand.execute("BEGIN EXCLUSIVE")
        tries = []
        real = layer._connections._current_writer
        layer._connections._current_writer = lambda now: tries.append(now) or real(now)
        errors = []

        def complete():
            try:
                layer._update_record(completed())
            except IdempotencyPersistenceConnectionError as error:
                errors.append(error)

        with layer._connections._writing:
            threads = [threading.Thread(target=complete) for _ in range(40)]
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join()
        assert len(errors) == 40
        assert len(tries) < 10

    def test_the_constructor_gives_up_too(self, layer, by_hand, path):
        by_hand.execute("BEGIN EXCLUSIVE")
        with pytest.raises(IdempotencyPersistenceConnectionError, match="busy_timeout_seconds=0"):
            SQLitePersistenceLayer(path, busy_timeout_seconds=0)

    def test_the_constructor_waits_for_a_writer_before_the_file_has_a_write_ahead_log(self, path):
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as by_hand:
            by_hand.execute("CREATE TABLE mine (x)")
            by_hand.execute("BEGIN IMMEDIATE")
            ends = threading.Timer(0.05, lambda: by_hand.execute("COMMIT"))
            ends.start()
            SQLitePersistenceLayer(path, busy_timeout_seconds=30).close()
            ends.join()
