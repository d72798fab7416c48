"""No lock stays held where a signal handler raises in the main thread, whatever the version of Python."""

from __future__ import annotations

import signal

import pytest

from support.sqlite_support import outcome, start


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer signals here")
@pytest.mark.parametrize("make", ["new_lock", "new_rlock", "GuardedLock"])
def test_a_lock_is_free_after_whatever_interrupts_its_block(make):
    said = outcome(
        start(
            f"""
            import signal, threading
            from retrysafe.locks import {make} as make

            def interrupt(*_):
                raise KeyboardInterrupt

            def others_take_it():
                if taken.append(lock.acquire(blocking=False)) or taken[-1]:
                    lock.release()

            signal.signal(signal.SIGALRM, interrupt)
            lock, taken, entered = make(), [], 0
            while len(taken) < 1000:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.0001 + 0.000001 * (len(taken) % 100))
                    while True:
                        with lock:
                            entered += 1
                except KeyboardInterrupt:
                    thread = threading.Thread(target=others_take_it)
                    thread.start()
                    thread.join()
            print(all(taken), entered > 1000)
            """
        )
    )
    assert said == "True True\n"
