"""Where workers come from: a process that has loaded everything, and forks one in milliseconds when told so.

    python -m faults.nursery    reads requests and writes replies, each a line of JSON

`{"do": "fork", "job": {...}}` is replied with the process's number, `{"do": "kill", "pid": ...}` and
`{"do": "end", "pid": ...}` with how it ended. Only the nursery waits for its children, so that no number is ever
another process's before it is done with. When its input ends, or it dies itself, they die.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import faulthandler
import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servers.processes import guard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faults.worker import Job

_TESTS = Path(__file__).parents[1]
_PR_SET_PDEATHSIG = 1
_DYING_SECONDS = 60.0
_POLL_SECONDS = 0.002


class Nursery:
    """The other end, for the campaign.

    Args:
        directory: Where the log of all its workers goes.
        store: Of the jobs to come.
        environment: What the workers are told beside what every process here is.
    """

    def __init__(self, directory: Path, store: dict[str, Any], environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self.log = directory / f"workers-{id(self)}.log"
        path = filter(None, (str(_TESTS), os.environ.get("PYTHONPATH")))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "faults.nursery", json.dumps(store)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment},
                start_new_session=True,
            )
        guard().started(self._process.pid)

    def wait(self) -> None:
        """Wait until all is loaded."""
        self._ask(do="nothing")

    def fork(self, job: Job) -> int:
        """A worker that does this job: its number."""
        return self._ask(do="fork", job=dataclasses.asdict(job))

    def kill(self, pid: int) -> int:
        """End it as a crash does: how it ended, which is -9 unless it had ended by itself."""
        return self._ask(do="kill", pid=pid, seconds=_DYING_SECONDS)

    def end(self, pid: int, seconds: float) -> int:
        """Wait until it has ended by itself: its exit code, or minus the signal."""
        return self._ask(do="end", pid=pid, seconds=seconds)

    def close(self) -> None:
        """End all its workers, and itself."""
        self._process.communicate()
        guard().ended(self._process.pid)

    def _ask(self, **request: Any) -> int:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(f"{json.dumps(request)}\n")
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        assert reply, f"the nursery has ended: {self.log.read_text()[-2000:]}"
        number: int = json.loads(reply)
        return number


def main() -> None:
    """Serve the requests on standard input."""
    _sleep_by_select()
    from faults import layers, worker  # noqa: PLC0415  # the campaign's own process needs none of it

    layers.prepare(json.loads(sys.argv[1]))
    # What is loaded now is never freed: looking through it would copy it in every worker.
    gc.collect()
    gc.freeze()
    signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
    children: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "nothing":
            reply = 0
        elif request["do"] == "fork":
            reply = _fork(request["job"])
            children.add(reply)
        else:
            pid = request["pid"]
            if request["do"] == "kill":
                os.kill(pid, signal.SIGKILL)
            reply = _end_of(pid, request["seconds"])
            children.discard(pid)
        sys.stdout.write(f"{reply}\n")
        sys.stdout.flush()
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _end_of(pid: int, seconds: float) -> int:
    """How it ended. One that has not by then says where it is, and is killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(_POLL_SECONDS)
    os.kill(pid, signal.SIGUSR2)
    time.sleep(1)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fork(job: dict[str, Any]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return 0  # it died before it could be said to die with us
        _leave_pipes()
        faulthandler.register(signal.SIGUSR2, all_threads=True)
        from faults.worker import Job, main  # noqa: PLC0415  # loaded by now

        main(Job(**job))
        code = 0
    except BaseException:  # noqa: BLE001  # a forked process must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _leave_pipes() -> None:
    """A worker must not read its parent's requests, nor hold up the end of its replies."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)


def _sleep_by_select() -> None:
    """`time.sleep` asks for a moment of the monotonic clock, which libfaketime mixes up with the one that it moves."""
    time.sleep = lambda seconds: select.select((), (), (), max(seconds, 0))[0] and None


if __name__ == "__main__":
    main()
