"""The SQLite layer in a process that forks: neither side loses a write, or finds anything locked."""

from __future__ import annotations

import os

import pytest

from support.sqlite_support import outcome, start

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


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
