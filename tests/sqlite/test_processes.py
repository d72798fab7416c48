"""The SQLite layer under rivals: threads, processes, forks, signals, and sudden death."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
from retrysafe.persistence.datarecord import COMPLETED
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_support import SetClock, claim, outcome, start

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.db"


def test_of_100_threads_one_wins_each_key(path):
    with SQLitePersistenceLayer(path, synchronous="off", busy_timeout_seconds=60, clock=SetClock()) as layer:
        together = threading.Barrier(100)

        def rival(number):
            won = []
            for key in map(str, range(5)):
                together.wait()
                try:
                    layer._put_record(claim(key, owner=str(number)))
                    won.append(key)
                except IdempotencyItemAlreadyExistsError as error:
                    assert error.old_data_record.idempotency_key == key  # noqa: PT017  # of many threads
            return won

        with ThreadPoolExecutor(100) as threads:
            wins = Counter(key for won in threads.map(rival, range(100)) for key in won)
    assert wins == dict.fromkeys(map(str, range(5)), 1)


@pytest.mark.parametrize("case", ["first claim", "window over", "takeover"])
def test_of_4_processes_one_wins_each_key(path, case):
    rivals = [
        start(
            """
            import json, sys
            from support.sqlite_support import *
            from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
            from retrysafe.persistence.sqlite import SQLitePersistenceLayer
            path, case, owner = sys.argv[1:]
            now = START_MS if case == "takeover" else START_MS + 10 * WINDOW_S * 1000
            layer = SQLitePersistenceLayer(
                path, synchronous="off", busy_timeout_seconds=60, clock=SetClock(now)
            )
            print("ready", flush=True)
            input()
            won = []
            for number in range(200):
                replaces = claim(f"key#{number}", "dead") if case == "takeover" else None
                try:
                    layer._put_record(claim(f"key#{number}", owner, now_ms=now, replaces=replaces))
                    won.append(number)
                except IdempotencyItemAlreadyExistsError as error:
                    assert error.old_data_record.owner != owner
            layer.close()
            print(json.dumps(won))
            """,
            path,
            case,
            owner,
        )
        for owner in "abcd"
    ]
    with SQLitePersistenceLayer(path, synchronous="off", clock=SetClock()) as layer:
        for number in range(0 if case == "first claim" else 200):
            layer._put_record(claim(f"key#{number}", "dead"))
    for rival in rivals:
        assert rival.stdout.readline() == "ready\n"
    for rival in rivals:
        rival.stdin.write("go\n")
        rival.stdin.flush()
    wins = Counter(number for rival in rivals for number in json.loads(outcome(rival)))
    assert wins == dict.fromkeys(range(200), 1)


def test_many_processes_may_make_one_file_at_once(tmp_path):
    makers = [
        start(
            """
            import sys
            from support.sqlite_support import *
            from retrysafe.persistence.sqlite import SQLitePersistenceLayer
            directory, owner = sys.argv[1:]
            print("ready", flush=True)
            input()
            for number in range(20):
                path = f"{directory}/{number}.db"
                with SQLitePersistenceLayer(path, synchronous="off", clock=SetClock()) as layer:
                    layer._put_record(claim(owner))
            """,
            tmp_path,
            owner,
        )
        for owner in "abcd"
    ]
    for maker in makers:
        maker.stdout.readline()
    for maker in makers:
        maker.stdin.write("go\n")
        maker.stdin.flush()
    for maker in makers:
        outcome(maker)
    for number in range(20):
        with SQLitePersistenceLayer(tmp_path / f"{number}.db", clock=SetClock()) as layer:
            for owner in "abcd":
                layer._get_record(owner)


@pytest.mark.parametrize("synchronous", ["full", "off"])
def test_what_was_acknowledged_outlives_a_killed_process(path, synchronous):
    acknowledged = []
    for life in range(4):
        victim = start(
            """
            import sys
            from support.sqlite_support import *
            from retrysafe.persistence.sqlite import SQLitePersistenceLayer
            path, synchronous, life = sys.argv[1:]
            layer = SQLitePersistenceLayer(path, synchronous=synchronous, clock=SetClock())
            for number in range(100_000):
                layer._put_record(claim(f"{life}.{number}"))
                layer._update_record(completed(f"{life}.{number}", answer=f'"{number}"' * 50))
                print(number, flush=True)
            """,
            path,
            synchronous,
            life,
        )
        acknowledged += [(life, int(victim.stdout.readline())) for _ in range(20 + 30 * life)]
        victim.kill()
        out, err = victim.communicate(timeout=60)
        assert err == ""
        acknowledged += [(life, int(line)) for line in out.splitlines(keepends=True) if line.endswith("\n")]
        with SQLitePersistenceLayer(path, synchronous=synchronous, clock=SetClock()) as layer:
            for life_then, number in acknowledged:
                record = layer._get_record(f"{life_then}.{number}")
                assert record.stored_status == COMPLETED
                assert record.response_data == f'"{number}"' * 50
    by_hand = sqlite3.connect(path)
    assert by_hand.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    by_hand.close()


@needs_fork
class TestFork:
    def test_nothing_that_either_side_writes_is_lost(self, path):
        said = outcome(
            start(
                """
                import os, sys, threading, warnings
                from support.sqlite_support import *
                from retrysafe.persistence.sqlite import SQLitePersistenceLayer
                warnings.simplefilter("ignore", DeprecationWarning)  # of forking among threads, as is meant
                path = sys.argv[1]
                layer = SQLitePersistenceLayer(path, synchronous="off", clock=SetClock())
                layer._put_record(claim("before"))
                stopped = threading.Event()
                counts = []

                def busy(name):
                    number = 0
                    while not stopped.is_set():
                        layer._put_record(claim(f"{name}.{number}"))
                        layer._get_record(f"{name}.{number}")
                        number += 1
                    counts.append((name, number))

                threads = [threading.Thread(target=busy, args=(name,)) for name in "uvwxyz"]
                for thread in threads:
                    thread.start()
                children = []
                for child in range(5):
                    told, tell = os.pipe()
                    pid = os.fork()
                    if pid == 0:
                        for _, other in (*children, (pid, tell)):
                            os.close(other)
                        layer._put_record(claim(f"child.{child}.early"))
                        os.read(told, 1)
                        layer._get_record("before")
                        layer._put_record(claim(f"child.{child}.late"))
                        layer._update_record(completed(f"child.{child}.late"))
                        layer.close()
                        os._exit(0)
                    os.close(told)
                    children.append((pid, tell))
                stopped.set()
                for thread in threads:
                    thread.join()
                layer.close()  # while children are at work: it is not the last one
                for pid, tell in children:
                    os.write(tell, b"x")
                    assert os.waitpid(pid, 0)[1] == 0
                with SQLitePersistenceLayer(path, clock=SetClock()) as layer:
                    layer._get_record("before")
                    for name, count in counts:
                        for number in range(count):
                            layer._get_record(f"{name}.{number}")
                    for child in range(5):
                        layer._get_record(f"child.{child}.early")
                        assert layer._get_record(f"child.{child}.late").stored_status == "COMPLETED"
                print("kept", sum(count for _, count in counts) > 0)
                """,
                path,
            )
        )
        assert said == "kept True\n"

    def test_a_connection_carried_over_unannounced_is_neither_used_nor_closed(self, path):
        said = outcome(
            start(
                """
                import ctypes, os, sys
                from support.sqlite_support import *
                from retrysafe.exceptions import IdempotencyPersistenceConnectionError
                from retrysafe.persistence._sqlite import forks
                from retrysafe.persistence.sqlite import SQLitePersistenceLayer
                unused = SQLitePersistenceLayer(sys.argv[1], table="unused", clock=SetClock())
                layer = SQLitePersistenceLayer(sys.argv[1], clock=SetClock())
                layer._put_record(claim())
                pid = ctypes.PyDLL(None).fork()  # as servers written in C do; Python is told only afterwards
                if pid == 0:
                    forks._after_fork_in_child()
                    unused._put_record(claim())
                    for _ in range(2):
                        try:
                            layer._get_record("key")
                        except IdempotencyPersistenceConnectionError as error:
                            os.write(1, f"{error}\\n".encode())
                        layer.close()
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
                layer._update_record(completed())
                unused._update_record(completed())
                """,
                path,
            )
        )
        assert said.count("was open when this process was forked") == 1
        assert said.count("was closed with its layer") == 1

    def test_a_fork_that_a_signal_interrupts_leaves_nothing_locked(self, path):
        said = outcome(
            start(
                """
                import os, signal, sys, threading, warnings
                from support.sqlite_support import *
                from retrysafe.persistence.sqlite import SQLitePersistenceLayer
                warnings.simplefilter("ignore", DeprecationWarning)  # of forking among threads, as is meant
                sys.unraisablehook = lambda _: print("interrupted")
                layer = SQLitePersistenceLayer(sys.argv[1], clock=SetClock())
                opens, may_go_on = threading.Event(), threading.Event()

                def open_a_reader():
                    with layer._connections._opening:
                        opens.set()
                        may_go_on.wait()

                def interrupt(*_):
                    raise KeyboardInterrupt

                signal.signal(signal.SIGALRM, interrupt)
                opening = threading.Thread(target=open_a_reader)
                opening.start()
                opens.wait()
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                child = os.fork()
                if child == 0:
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
                may_go_on.set()
                opening.join()
                writing = threading.Thread(target=layer._put_record, args=(claim(),), daemon=True)
                writing.start()
                writing.join(20)
                print("written", not writing.is_alive(), flush=True)
                os._exit(0)
                """,
                path,
            )
        )
        assert said.endswith("written True\n")


def test_an_interrupted_thread_leaves_nothing_locked(path):
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timer signals here")
    said = outcome(
        start(
            """
            import itertools, signal, sys, threading
            from support.sqlite_support import *
            from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
            from retrysafe.persistence.sqlite import SQLitePersistenceLayer
            layer = SQLitePersistenceLayer(sys.argv[1], synchronous="off", clock=SetClock())
            numbers = itertools.count()
            interrupts = 0

            def interrupt(*_):
                raise KeyboardInterrupt

            signal.signal(signal.SIGALRM, interrupt)
            while interrupts < 300:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0002 + 0.00001 * (interrupts % 30))
                    while True:
                        key = str(next(numbers))
                        layer._put_record(claim(key))
                        layer._update_record(completed(key))
                        layer._get_record(key)
                except KeyboardInterrupt:
                    interrupts += 1
                if layer._connections._writer is not None:
                    assert not layer._connections._writer.in_transaction
            done = []
            write = lambda: done.append(layer._put_record(claim("free")))
            thread = threading.Thread(target=write, daemon=True)
            thread.start()
            thread.join(30)
            print(len(done))
            layer.close()
            """,
            path,
        )
    )
    assert said == "1\n"


def test_a_signal_handler_may_use_and_close_the_layer(path):
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timer signals here")
    said = outcome(
        start(
            """
            import signal, sys
            from support.sqlite_support import *
            from retrysafe.exceptions import IdempotencyPersistenceConnectionError
            from retrysafe.persistence.sqlite import SQLitePersistenceLayer
            layer = SQLitePersistenceLayer(sys.argv[1], synchronous="off", clock=SetClock())
            handled = 0

            def handle(*_):
                global handled
                handled += 1
                layer._put_record(claim(f"handler.{handled}"))
                if handled == 50:
                    layer.close()
                else:  # from here, as on a busy machine the signals would come faster than they are handled
                    signal.setitimer(signal.ITIMER_REAL, 0.001)

            signal.signal(signal.SIGALRM, handle)
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            number = 0
            try:
                while True:
                    layer._put_record(claim(str(number)))
                    number += 1
            except IdempotencyPersistenceConnectionError as error:
                print(number > 0, handled)
            """,
            path,
        )
    )
    assert said == "True 50\n"


@pytest.mark.parametrize("end", ["layer.close()", "del layer", "pass"], ids=["closed", "dropped", "left"])
def test_nothing_is_left_open(path, end):
    outcome(
        start(
            f"""
            import gc, sys
            from support.sqlite_support import *
            from retrysafe.persistence.sqlite import SQLitePersistenceLayer
            layer = SQLitePersistenceLayer(sys.argv[1], clock=SetClock())
            layer._put_record(claim())
            {end}
            gc.collect()
            """,
            path,
            options=("-W", "error", "-X", "dev"),
        )
    )
    assert [found.name for found in path.parent.iterdir()] == [path.name]
