"""The files of an SQLite database under a layer: what becomes of its log, and what happens when one of them goes."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing

import pytest

from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_support import SetClock, claim, completed, outcome, start

PAGE = '"' + "x" * 4000 + '"'


@pytest.fixture
def layer(path):
    with SQLitePersistenceLayer(path, synchronous="off", clock=SetClock()) as made:
        made._put_record(claim())
        yield made


@pytest.fixture
def statements(layer):
    """What the connection that writes has carried out."""
    carried_out = []
    layer._connections._writer.set_trace_callback(carried_out.append)
    return carried_out


class Log:
    """The write-ahead log of a layer that takes one of 200 kB for long."""

    def __init__(self, layer, path):
        self._layer = layer
        self._path = f"{path}-wal"
        self.limit(200_000)

    def limit(self, length):
        self._layer._connections._files._long_log = length

    @property
    def length(self):
        return os.path.getsize(self._path)  # noqa: PTH202

    def grow(self, *, to):
        while self.length < to:
            self._layer._update_record(completed(answer=PAGE))

    def write_a_second_later(self):
        self._layer._connections._check_file_at = 0
        self._layer._update_record(completed())


@pytest.fixture
def log(layer, path):
    return Log(layer, path)


class TestLog:
    def test_a_long_log_is_emptied(self, log):
        log.grow(to=200_000)
        log.write_a_second_later()
        assert log.length < 50_000

    def test_one_of_common_length_is_left_to_sqlite(self, log, statements):
        log.grow(to=150_000)
        log.write_a_second_later()
        assert log.length >= 150_000
        assert not [statement for statement in statements if "PRAGMA" in statement]

    def test_a_log_that_readers_hold_in_turns_without_a_gap_is_emptied_too(self, log, path):
        ends = threading.Event()

        def read_in_turns():
            with (
                closing(sqlite3.connect(path, isolation_level=None)) as first,
                closing(sqlite3.connect(path, isolation_level=None)) as second,
            ):
                one, other = first, second
                one.execute("BEGIN")
                one.execute("SELECT count(*) FROM retrysafe").fetchall()
                while not ends.wait(0.001):
                    one, other = other, one
                    one.execute("BEGIN")
                    one.execute("SELECT count(*) FROM retrysafe").fetchall()
                    other.execute("COMMIT")

        readers = threading.Thread(target=read_in_turns)
        readers.start()
        try:
            log.grow(to=200_000)
            for _ in range(100):
                log.write_a_second_later()
                if log.length < 200_000:
                    break
                log.limit(200_000)
        finally:
            ends.set()
            readers.join()
        assert log.length < 200_000

    def test_a_log_that_a_reader_keeps_is_tried_again_when_it_is_twice_as_long(self, log, path, statements):
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM retrysafe").fetchall()
            log.grow(to=200_000)
            for _ in range(5):
                log.write_a_second_later()
            assert sum("wal_checkpoint" in statement for statement in statements) == 1
            log.grow(to=2 * log.length)
            log.write_a_second_later()
            assert sum("wal_checkpoint" in statement for statement in statements) == 2
            reader.execute("COMMIT")
        log.grow(to=2 * log.length)
        log.write_a_second_later()
        assert log.length < 50_000

    def test_where_another_program_has_taken_the_log_away_records_are_stored_without(self, path):
        with SQLitePersistenceLayer(path, clock=SetClock()) as layer:
            with closing(sqlite3.connect(path)) as by_hand:
                assert by_hand.execute("PRAGMA journal_mode = DELETE").fetchall() == [("delete",)]
            layer._put_record(claim())
            layer._connections._check_file_at = 0
            layer._update_record(completed())
            assert layer._get_record("key") == completed()
            assert not path.with_name(f"{path.name}-wal").exists()


MAY_KEEP_ITS_LOG = (3, 51)
"""The first SQLite that notices that its locks are gone with a file that was closed."""

LOSES_ITS_LOG = """
    import os, sys
    from support.sqlite_support import *
    from retrysafe.exceptions import IdempotencyPersistenceConnectionError
    from retrysafe.persistence.sqlite import SQLitePersistenceLayer
    path, cause = sys.argv[1:]
    layer = SQLitePersistenceLayer(path, clock=SetClock())
    layer._put_record(claim("before"))
    if cause == "removed":
        layer._connections.write(("PRAGMA wal_checkpoint(TRUNCATE)", ()))
        os.remove(path + "-wal")
        os.remove(path + "-shm")
    else:
        open(path, "rb").close()
    print("lost", flush=True)
    input()
    layer._connections._check_file_at = float("inf")
    try:
        layer._put_record(claim("nobody sees it"))
    except IdempotencyPersistenceConnectionError:
        pass  # SQLite may notice that something is wrong
    layer._connections._check_file_at = 0
    for use in (
        lambda: layer._put_record(claim("new")),
        lambda: layer._update_record(completed("nobody sees it")),
        lambda: SQLitePersistenceLayer(path),
    ):
        try:
            use()
        except IdempotencyPersistenceConnectionError as error:
            print(error)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no file that is open, and its locks are of a handle")
class TestLostLog:
    @pytest.mark.parametrize("cause", ["removed", "unlocked"])
    @pytest.mark.parametrize("end", ["layer.close()", "pass", "os.fork() or os._exit(0)"])
    def test_it_is_noticed_and_what_others_have_stored_meanwhile_stays(self, path, cause, end):
        """Either somebody removes it; or this process has lost its locks by closing the file, and the next one does."""
        loses = start(LOSES_ITS_LOG + f"    {end}\n", path, cause)
        assert loses.stdout.readline() == "lost\n"
        with SQLitePersistenceLayer(path, clock=SetClock()) as layer:
            layer._put_record(claim("key"))
            layer._update_record(completed("key"))
        is_kept = cause == "unlocked" and path.with_name(f"{path.name}-wal").exists()
        assert not is_kept or sqlite3.sqlite_version_info >= MAY_KEEP_ITS_LOG
        said = outcome(loses, "go on\n").splitlines()
        assert len(said) == (0 if is_kept else 3)
        for line in said:
            assert f"the -wal or -shm file of the SQLite database {path} was removed" in line
            assert "end this process" in line
        with SQLitePersistenceLayer(path, clock=SetClock()) as layer:
            layer._get_record("before")
            assert layer._get_record("key") == completed("key")
            assert not is_kept or layer._get_record("nobody sees it") == completed("nobody sees it")

    def test_other_layers_and_processes_that_come_and_go_are_no_cause(self, layer, path):
        for number in range(3):
            with SQLitePersistenceLayer(path, clock=SetClock()) as other:
                other._put_record(claim(f"beside.{number}"))
            outcome(
                start(
                    """
                    import sys
                    from support.sqlite_support import *
                    from retrysafe.persistence.sqlite import SQLitePersistenceLayer
                    with SQLitePersistenceLayer(sys.argv[1], clock=SetClock()) as layer:
                        layer._put_record(claim(sys.argv[2]))
                    """,
                    path,
                    f"elsewhere.{number}",
                )
            )
            layer._connections.hold()  # as before a fork
            layer._connections.close_all()
            layer._connections.resume()
            layer._get_record("key")
            layer._put_record(claim(f"here.{number}"))
            layer._connections._check_file_at = 0
            layer._renew_record(claim(f"here.{number}"))

    def test_neither_is_a_database_that_is_removed_as_a_whole(self, layer, path):
        for found in list(path.parent.iterdir()):
            found.unlink()
        layer.close()
        with SQLitePersistenceLayer(path, clock=SetClock()) as new:
            new._put_record(claim())
