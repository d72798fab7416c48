"""The SQLite layer under signals: whatever a handler interrupts, nothing stays locked, and it may use the layer."""

from __future__ import annotations

import signal

import pytest

from support.sqlite_support import outcome, start


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
