"""The SQLite layer when the database fails: each error is one of ours, says what to do, tells no secret."""

from __future__ import annotations

import os
import pickle
import sqlite3
import tempfile
import threading
import traceback
from contextlib import closing

import pytest

from retrysafe.exceptions import (
    IdempotencyBaseError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence._sqlite.errors import explained
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_support import START_MS, SetClock, claim, completed, outcome, start


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.db"


@pytest.fixture
def layer(path):
    made = SQLitePersistenceLayer(path, synchronous="off", busy_timeout_seconds=0.05, clock=SetClock())
    with made:
        made._put_record(claim())
        yield made


@pytest.fixture
def by_hand(path, layer):
    """Another program's connection to the same file."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


def writes(layer):
    """Each method that writes, with a record for which it has something to write."""
    return [
        (layer._put_record, claim("new")),
        (layer._delete_record, claim("new")),
        (layer._renew_record, claim()),
        (layer._update_record, completed()),
        (layer.sweep, 1),
    ]


class TestLocked:
    @pytest.fixture
    def pauses(self, by_hand, monkeypatch):
        """How long each look for a turn waits; the database is let go at the 200th."""
        pauses = []

        def look_later(seconds):
            pauses.append(seconds)
            if len(pauses) == 200:
                by_hand.execute("ROLLBACK")

        monkeypatch.setattr("retrysafe.persistence._sqlite.connections.sleep", look_later)
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


class TestFull:
    def test_a_full_database_keeps_what_it_has(self, layer):
        writer = layer._connections._writer
        ((pages,),) = writer.execute("PRAGMA page_count").fetchall()
        writer.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(IdempotencyPersistenceLayerError, match="is full"):
            layer._update_record(completed(answer="1" * 100_000))
        assert layer._get_record("key") == claim()
        writer.execute("PRAGMA max_page_count = 1000")
        layer._update_record(completed(answer="1" * 100_000))

    def test_a_disk_that_takes_no_more_keeps_what_it_has(self, path, layer):
        process = start(
            """
            import resource, sys
            from support.sqlite_support import *
            from retrysafe.exceptions import IdempotencyPersistenceLayerError
            from retrysafe.persistence.sqlite import SQLitePersistenceLayer
            layer = SQLitePersistenceLayer(sys.argv[1], clock=SetClock())
            layer._put_record(claim("mine"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
            try:
                layer._update_record(completed("mine", answer="1" * 100_000))
            except IdempotencyPersistenceLayerError as error:
                print(error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            assert layer._get_record("mine") == claim("mine")
            layer._update_record(completed("mine", answer="1" * 100_000))
            """,
            path,
        )
        assert "could not be read or written" in outcome(process)


class TestPlace:
    def test_a_missing_directory_is_named(self, tmp_path):
        with pytest.raises(IdempotencyPersistenceConfigError, match="directory must exist") as caught:
            SQLitePersistenceLayer(tmp_path / "missing" / "records.db")
        assert str(tmp_path / "missing" / "records.db") in str(caught.value)

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
    def test_a_limit_of_open_files_is_named(self, path):
        said = outcome(
            start(
                """
                import itertools, os, resource, sys
                from support.sqlite_support import *
                from retrysafe.exceptions import IdempotencyPersistenceConnectionError
                from retrysafe.persistence.sqlite import SQLitePersistenceLayer
                layer = SQLitePersistenceLayer(sys.argv[1], clock=SetClock())
                resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
                taken = []
                try:
                    while True:
                        taken.append(os.open(os.devnull, os.O_RDONLY))
                except OSError:
                    pass
                try:
                    layer._put_record(claim())
                except IdempotencyPersistenceConnectionError as error:
                    print(error)
                for number in taken:
                    os.close(number)
                layer._put_record(claim())
                """,
                path,
            )
        )
        assert "as many files open as it is allowed to" in said

    def test_a_directory_is_no_file(self, tmp_path):
        with pytest.raises(IdempotencyPersistenceConfigError, match="is a directory"):
            SQLitePersistenceLayer(tmp_path)

    @pytest.mark.parametrize("case", ["file", "directory", "both", "new file"])
    def test_what_may_not_be_written_is_refused(self, case):
        if not hasattr(os, "setuid"):
            pytest.skip("no permissions of this kind here")
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)  # noqa: S103, PTH101  # others must come in
            process = start(
                """
                import os, sys
                import urllib.parse  # which a stranger to this machine may not be allowed to read
                from retrysafe.exceptions import IdempotencyPersistenceConfigError
                from retrysafe.persistence.sqlite import SQLitePersistenceLayer
                directory, case = sys.argv[1:]
                path = f"{directory}/records.db"
                if case != "new file":
                    SQLitePersistenceLayer(path).close()
                os.chmod(directory, 0o777 if case == "file" else 0o555)
                if case != "new file":
                    os.chmod(path, 0o666 if case == "directory" else 0o444)
                if os.geteuid() == 0:
                    os.setuid(65534)
                try:
                    SQLitePersistenceLayer(path)
                except IdempotencyPersistenceConfigError as error:
                    print(error)
                """,
                directory,
                case,
            )
            said = outcome(process)
            os.chmod(directory, 0o755)  # noqa: S103, PTH101  # so that it can be removed
        assert f"{directory}/records.db" in said
        assert "write" in said

    def test_a_file_that_was_removed_is_noticed(self, layer, path):
        path.rename(path.with_name("moved.db"))
        layer._connections._check_file_at = 0
        with pytest.raises(IdempotencyPersistenceConnectionError, match="removed or replaced"):
            layer._put_record(claim("new"))
        SQLitePersistenceLayer(path).close()
        layer._connections._check_file_at = 0
        with pytest.raises(IdempotencyPersistenceConnectionError, match="removed or replaced"):
            layer._put_record(claim("new"))

    def test_a_file_that_was_removed_is_not_made_anew_by_the_way(self, path):
        with SQLitePersistenceLayer(path) as layer:
            path.unlink()
            for method, argument in writes(layer):
                with pytest.raises(IdempotencyPersistenceConnectionError, match="cannot be opened"):
                    method(argument)
        assert not path.exists()


class TestOldLibrary:
    def test_one_that_lacks_what_is_needed_is_named(self, path, monkeypatch):
        monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 22, 0))
        monkeypatch.setattr(sqlite3, "sqlite_version", "3.22.0")
        with pytest.raises(IdempotencyPersistenceConfigError, match=r"SQLite 3\.22\.0 .* 3\.24") as caught:
            SQLitePersistenceLayer(path)
        assert "sqlite3 module" in str(caught.value)
        assert not path.exists()


class TestDamage:
    @pytest.mark.parametrize("content", [b"short", b"a long text\n" * 1000], ids=["short", "long"])
    def test_a_file_that_is_no_database_is_refused_and_left_alone(self, path, content):
        path.write_bytes(content)
        with pytest.raises(IdempotencyPersistenceConsistencyError, match="no SQLite database") as caught:
            SQLitePersistenceLayer(path)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == content

    def test_damaged_pages_are_never_written_over(self, path):
        with SQLitePersistenceLayer(path, synchronous="off", clock=SetClock()) as layer:
            for number in range(200):
                layer._put_record(completed(f"key#{number}", answer="1" * 300))
        content = bytearray(path.read_bytes())
        for page in range(6, len(content) // 4096, 3):
            content[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
        path.write_bytes(content)
        with SQLitePersistenceLayer(path, synchronous="off", clock=SetClock()) as layer:
            ends = []
            for number in range(200):
                with pytest.raises(IdempotencyBaseError) as caught:
                    layer._put_record(claim(f"key#{number}", owner="b"))
                ends.append(caught.type)
        assert set(ends) == {IdempotencyItemAlreadyExistsError, IdempotencyPersistenceConsistencyError}
        assert bytes(content) == path.read_bytes()

    def test_a_dropped_table_is_told(self, layer, by_hand):
        by_hand.execute("DROP TABLE retrysafe")
        for method, argument in writes(layer):
            with pytest.raises(IdempotencyPersistenceLayerError, match="dropped"):
                method(argument)


SECRET = "4111111111111111"  # noqa: S105  # what a record may hold, and no error may tell


class TestUnreadable:
    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("status", "x'41'"),
            ("status", f"CAST(x'ff' || '{SECRET}' AS TEXT)"),
            ("expiration", f"'soon {SECRET}'"),
            ("expiration", "x'00'"),
            ("expiration", "0.5"),
            ("in_progress_expiration", f"'{SECRET}a'"),
            ("in_progress_expiration", "x'00'"),
            ("in_progress_expiration", "0.5"),
            ("owner", f"CAST('{SECRET}' AS BLOB)"),
            ("attempt", "'first'"),
            ("validation", "x'00'"),
            ("types", "x'00'"),
            ("data", f"CAST('{SECRET}' AS BLOB)"),
            ("data", f"CAST(x'ff' || '{SECRET}' AS TEXT)"),
        ],
    )
    def test_it_is_told_without_its_content_and_never_written_over(self, layer, by_hand, column, value):
        by_hand.execute(f"UPDATE retrysafe SET {column} = {value}")  # noqa: S608  # our own words
        before = by_hand.execute("SELECT *, hex(data) FROM retrysafe WHERE status <> 'x'")
        before.connection.text_factory = bytes
        before = before.fetchall()
        layer.clock.ms = 10 * START_MS
        for method, argument in ((layer._get_record, "key"), (layer._put_record, claim(owner="b"))):
            with pytest.raises(IdempotencyPersistenceConsistencyError) as caught:
                method(argument)
            assert SECRET not in "".join(traceback.format_exception(caught.value))
        after = by_hand.execute("SELECT *, hex(data) FROM retrysafe WHERE status <> 'x'").fetchall()
        assert before == after

    @pytest.mark.parametrize("value", ["'soon'", "x'00'", "0.5"])
    @pytest.mark.parametrize("column", ["expiration", "in_progress_expiration"])
    def test_the_statement_itself_spares_it_not_only_the_look_before_it(self, layer, by_hand, column, value):
        by_hand.execute(f"UPDATE retrysafe SET {column} = {value}")  # noqa: S608  # our own words
        assert layer._connections.write(layer._statements.claim(claim(owner="b"), 10 * START_MS)) == 0
        assert layer.sweep() == 0

    def test_a_lost_lease_is_a_lost_lease_whatever_stands_there_now(self, layer, by_hand):
        by_hand.execute("UPDATE retrysafe SET owner = x'00'")
        with pytest.raises(IdempotencyLeaseLostError) as caught:
            layer._update_record(completed())
        assert caught.value.record is None

    def test_other_keys_are_not_touched_by_it(self, layer, by_hand):
        by_hand.execute("UPDATE retrysafe SET expiration = 'soon'")
        layer._put_record(claim("other"))


class TestMapping:
    CODES = sorted(
        value
        for name, value in vars(sqlite3).items()
        if name.startswith("SQLITE_") and isinstance(value, int) and name.count("_") == 1
    )

    @pytest.mark.parametrize("opening", [False, True])
    def test_every_code_of_sqlite_becomes_an_error_of_ours(self, opening):
        for code in (*self.CODES, *range(1, 101), 266, 778, 1032, 5 | 99 << 8):
            error = sqlite3.DatabaseError("words of SQLite")
            error.sqlite_errorcode, error.sqlite_errorname = code, f"SQLITE_{code}"
            ours = explained(error, "/path/records.db", 5.0, opening=opening)
            assert isinstance(ours, IdempotencyPersistenceLayerError | IdempotencyPersistenceConfigError)
            assert str(ours).startswith("the SQLite database /path/records.db ")
            assert str(ours).endswith(f" - (SQLITE_{code}: words of SQLite)")
            assert "{" not in str(ours)

    @pytest.mark.parametrize(
        "error",
        [
            kind("words")
            for kind in (
                sqlite3.Error,
                *sqlite3.Error.__subclasses__(),
                *sqlite3.DatabaseError.__subclasses__(),
            )
        ]
        + [OverflowError("words"), UnicodeEncodeError("utf-8", SECRET, 0, 1, "words")],
        ids=lambda error: type(error).__name__,
    )
    def test_what_the_sqlite3_module_raises_by_itself_becomes_an_error_of_ours(self, error):
        ours = explained(error, "/path/records.db", 5.0)
        assert isinstance(ours, IdempotencyPersistenceLayerError)
        assert SECRET not in str(ours)

    @pytest.mark.parametrize("fault", ["denied", "interrupted", "closed behind its back"])
    def test_whatever_sqlite_refuses_comes_out_as_an_error_of_ours(self, layer, fault):
        for connection in (layer._connections._writer, *layer._connections._readers):
            if fault == "denied":
                connection.set_authorizer(lambda *action: sqlite3.SQLITE_DENY)
            elif fault == "interrupted":
                connection.set_progress_handler(lambda: 1, 1)
            else:
                connection.close()
        for method, argument in (*writes(layer), (layer._get_record, "key")):
            with pytest.raises(IdempotencyPersistenceLayerError) as caught:
                method(argument)
            assert isinstance(caught.value.__cause__, sqlite3.Error)

    @pytest.mark.parametrize("record", [claim("\ud800"), claim(window_s=2**70)], ids=["key", "window"])
    def test_a_value_that_sqlite_has_no_room_for_comes_out_as_an_error_of_ours(self, layer, record):
        with pytest.raises(IdempotencyPersistenceLayerError, match="cannot store a value"):
            layer._put_record(record.replaced(idempotency_key=record.idempotency_key + "new"))

    def test_a_value_of_another_type_comes_out_as_an_error_of_ours(self, layer):
        with pytest.raises(IdempotencyPersistenceLayerError):
            layer._put_record(claim("new").replaced(payload_hash=object()))

    def test_the_layer_works_on_after_an_error(self, layer):
        (reader,) = layer._connections._readers
        for connection in (layer._connections._writer, reader):
            connection.set_progress_handler(lambda: 1, 1)
        for method, argument in (*writes(layer), (layer._get_record, "key")):
            with pytest.raises(IdempotencyPersistenceLayerError):
                method(argument)
        for connection in (layer._connections._writer, reader):
            connection.set_progress_handler(None, 1)
        assert not layer._connections._writer.in_transaction
        for method, argument in writes(layer):
            method(argument)
        assert layer._get_record("key") == completed()


def test_a_layer_is_made_in_each_process_not_sent_there(layer):
    with pytest.raises(TypeError):
        pickle.dumps(layer)


def test_a_layer_that_a_signal_handler_closes_in_the_middle_of_a_write_says_that_it_is_closed(layer, monkeypatch):
    current_writer = layer._connections._current_writer

    def closed_behind(since):
        writer = current_writer(since)
        layer.close()
        return writer

    monkeypatch.setattr(layer._connections, "_current_writer", closed_behind)
    with pytest.raises(IdempotencyPersistenceConnectionError, match="was closed with its layer"):
        layer._put_record(claim("new"))
