"""A process that outlives the tests: kills their servers and removes their data, however the tests ended.

It reads lines from its standard input: `+pid` for a server started, `-pid` for one that is gone, and `.` at the end
of the tests. The end of the input means the same: it comes also when the tests are killed, since the system closes a
dead process's pipes.

A signal at the parent's death (PR_SET_PDEATHSIG) would be shorter, but comes when the *thread* that started the server
ends, which for a server that a test's thread restarted is too early.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys


def main(directory: str) -> None:
    pids: set[int] = set()
    for line in sys.stdin:
        if line.startswith("."):
            break
        pid = int(line[1:])
        if line.startswith("+"):
            pids.add(pid)
        else:
            pids.discard(pid)
            forget_clock(pid)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        forget_clock(pid)
    shutil.rmtree(directory, ignore_errors=True)


def forget_clock(pid: int) -> None:
    """What libfaketime leaves behind in shared memory where its process is killed."""
    for name in ("faketime_shm_", "sem.faketime_sem_"):
        with contextlib.suppress(OSError):
            os.unlink(f"/dev/shm/{name}{pid}")  # noqa: S108, PTH108 - that is where it is; pathlib would be loaded for it


if __name__ == "__main__":
    main(sys.argv[1])
