"""Threads that are torn out, interrupted or killed among writes that commit together: the others lose nothing."""

from __future__ import annotations

import signal
import sqlite3
import threading
from contextlib import closing

import pytest

from retrysafe.exceptions import IdempotencyPersistenceLayerError
from retrysafe.persistence._sqlite import groups
from retrysafe.persistence.datarecord import COMPLETED
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_groups import Together, claims, nothing, stored
from support.sqlite_support import SetClock, claim, outcome, start


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

    def test_the_main_thread_commits_by_itself_what_others_wait_to_commit_together(self):
        """Else a signal handler that makes calls would find its own thread in the middle of other threads' writes."""

        class Database:
            def alone(self, command, since):
                carried_out.append(command)
                return 1

            def begin(self):
                raise AssertionError("with others")

        carried_out = []
        among = groups.WriteGroups(threading.RLock())
        among._queue.append(waits := groups._Write(("theirs", ()), 0.0))
        assert among.write(("mine", ()), 0.0, Database()) == 1
        assert carried_out == [("mine", ())]
        assert among._queue == [waits]

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
