"""A machine that fails an SQLite layer: a place that cannot be used, a disk that is full, a library too old."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from time import monotonic

import pytest

from retrysafe.exceptions import (
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence._sqlite import mounts
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_failures import writes
from support.sqlite_support import SetClock, claim, completed, outcome, start


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

    def test_a_file_that_is_mounted_without_its_log_is_refused(self, tmp_path):
        """Two containers that share the file alone would each have a log of their own, and run the same work."""
        apart = ("unshare", "--map-root-user", "--mount")
        if shutil.which("unshare") is None or subprocess.run([*apart, "true"], check=False).returncode:
            pytest.skip("no mounts of one's own can be made here")
        inside = tmp_path / "as a container sees it"
        inside.mkdir()
        for directory in (tmp_path, inside):
            (directory / "records.db").touch()
        process = start(
            """
            import subprocess, sys
            from retrysafe.exceptions import IdempotencyPersistenceConfigError
            from retrysafe.persistence.sqlite import SQLitePersistenceLayer
            directory, inside = sys.argv[1:]
            subprocess.run(["mount", "--bind", f"{directory}/records.db", f"{inside}/records.db"], check=True)
            SQLitePersistenceLayer(f"{directory}/records.db").close()
            try:
                SQLitePersistenceLayer(f"{inside}/records.db")
            except IdempotencyPersistenceConfigError as error:
                print(error)
            subprocess.run(["umount", f"{inside}/records.db"], check=True)
            subprocess.run(["mount", "--bind", directory, inside], check=True)
            SQLitePersistenceLayer(f"{inside}/records.db").close()
            """,
            tmp_path,
            inside,
            under=apart,
        )
        assert f"{inside}/records.db is mounted by itself" in outcome(process)
        assert not list(inside.glob("*-wal"))

    @pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
    def test_a_file_system_of_the_network_is_refused(self, kind, tmp_path, monkeypatch):
        """Machines on one there would each have an index of the log in their own memory, and run the same work."""
        share = tmp_path / "a share"
        share.mkdir()
        written = str(share).replace(" ", "\\040")
        self.tell_mounts(
            tmp_path, monkeypatch, f"{written} rw shared:1 - {kind} server:/ rw", f"{tmp_path} rw - ext4 x x"
        )
        with pytest.raises(IdempotencyPersistenceConfigError, match=rf"a share/records.db is on .* \({kind}\)"):
            SQLitePersistenceLayer(share / "records.db")
        assert list(share.iterdir()) == []
        SQLitePersistenceLayer(tmp_path / "records.db").close()

    def test_what_was_mounted_there_last_counts(self, tmp_path, monkeypatch):
        self.tell_mounts(tmp_path, monkeypatch, f"{tmp_path} rw - nfs4 server:/ rw", f"{tmp_path} rw - ext4 /dev/x rw")
        SQLitePersistenceLayer(tmp_path / "records.db").close()

    def test_a_system_that_tells_nothing_of_mounts_refuses_none(self, tmp_path, monkeypatch):
        monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "nothing")
        SQLitePersistenceLayer(tmp_path / "records.db").close()

    @staticmethod
    def tell_mounts(tmp_path, monkeypatch, *told):
        file = tmp_path / "mountinfo"
        file.write_text(
            "".join(f"{number} 1 0:1 / {each}\n" for number, each in enumerate(("/ rw - ext4 x rw", *told)))
        )
        monkeypatch.setattr(mounts, "_MOUNTS", file)

    def test_a_directory_is_no_file(self, tmp_path):
        with pytest.raises(IdempotencyPersistenceConfigError, match="is a directory"):
            SQLitePersistenceLayer(tmp_path)

    @pytest.mark.skipif(os.name == "nt", reason="Windows removes no directory that a process is in")
    def test_a_working_directory_that_was_removed_is_told_of(self, tmp_path):
        said = outcome(
            start(
                """
                import os, sys
                from retrysafe.exceptions import IdempotencyPersistenceConfigError
                from retrysafe.persistence.sqlite import SQLitePersistenceLayer
                os.mkdir(sys.argv[1])
                os.chdir(sys.argv[1])
                os.rmdir(sys.argv[1])
                try:
                    SQLitePersistenceLayer("records.db")
                except IdempotencyPersistenceConfigError as error:
                    print(error)
                """,
                tmp_path / "gone",
            )
        )
        assert "path='records.db': is relative to" in said

    @pytest.mark.parametrize("case", ["file", "directory", "both", "new file"])
    def test_what_may_not_be_written_is_refused_and_nothing_is_left_beside_it(self, case):
        """SQLite would leave a log of this user's, which keeps out those who may write."""
        if not hasattr(os, "setuid"):
            pytest.skip("no permissions of this kind here")
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)  # noqa: S103, PTH101  # others must come in
            process = start(
                """
                import os, sys
                import urllib.parse  # which a stranger to this machine may not be allowed to read
                from retrysafe.exceptions import IdempotencyPersistenceConfigError
                from retrysafe.persistence._sqlite.looking import has_table
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
                for use in (SQLitePersistenceLayer, lambda path: has_table(path, "retrysafe")):
                    try:
                        use(path)
                    except IdempotencyPersistenceConfigError as error:
                        print(error)
                """,
                directory,
                case,
            )
            said = outcome(process).splitlines()
            os.chmod(directory, 0o755)  # noqa: S103, PTH101  # so that it can be removed
            left = os.listdir(directory)  # noqa: PTH208
        assert left == ([] if case == "new file" else ["records.db"])
        assert ["write" in line and f"{directory}/records.db" in line for line in said] == [True, True]

    def test_another_file_that_took_its_name_before_a_connection_was_opened_is_neither_read_nor_written(self, path):
        another = path.with_name("another.db")
        with SQLitePersistenceLayer(another, clock=SetClock()) as of_another:
            of_another._put_record(claim("another"))
        with SQLitePersistenceLayer(path, clock=SetClock()) as layer:
            content = another.rename(path).read_bytes()
            for method, argument in ((layer._get_record, "another"), *writes(layer)):
                with pytest.raises(IdempotencyPersistenceConnectionError, match="removed or replaced"):
                    method(argument)
            assert path.read_bytes() == content

    def test_a_file_that_was_removed_is_noticed(self, layer, path):
        path.rename(path.with_name("moved.db"))
        layer._connections._check_file_at = 0
        with pytest.raises(IdempotencyPersistenceConnectionError, match="removed or replaced"):
            layer._put_record(claim("new"))
        SQLitePersistenceLayer(path).close()
        layer._connections._check_file_at = 0
        with pytest.raises(IdempotencyPersistenceConnectionError, match="removed or replaced"):
            layer._put_record(claim("new"))

    def test_that_is_noticed_by_a_write_a_second_later(self, layer, path, monkeypatch):
        now = [monotonic()]  # the layer has looked by the real clock already, where a put of the fixture swept
        monkeypatch.setattr("retrysafe.persistence._sqlite.connections.monotonic", lambda: now[0])
        for number in range(2):  # the first opens the connection
            layer._put_record(claim(f"before.{number}"))
        path.rename(path.with_name("moved.db"))
        now[0] += 1
        with pytest.raises(IdempotencyPersistenceConnectionError, match="removed or replaced"):
            layer._put_record(claim("new"))

    def test_a_file_that_was_removed_is_not_made_anew_by_the_way(self, path):
        with SQLitePersistenceLayer(path) as layer:
            path.unlink()
            for method, argument in writes(layer):
                with pytest.raises(IdempotencyPersistenceConnectionError, match="cannot be opened"):
                    method(argument)
        assert not path.exists()


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


class TestOldLibrary:
    def test_one_that_lacks_what_is_needed_is_named(self, path, monkeypatch):
        monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 22, 0))
        monkeypatch.setattr(sqlite3, "sqlite_version", "3.22.0")
        with pytest.raises(IdempotencyPersistenceConfigError, match=r"SQLite 3\.22\.0 .* 3\.24") as caught:
            SQLitePersistenceLayer(path)
        assert "sqlite3 module" in str(caught.value)
        assert not path.exists()
