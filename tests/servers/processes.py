"""A server as a process: free ports, a directory of its own, started until it answers, stopped, killed and frozen."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import functools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HOST = "127.0.0.1"

# A cluster's node also listens on its port + 10000. Both lie below the ports that systems hand out by themselves to
# outgoing connections (from 32768 on Linux), so that none of these gets in between.
_PORTS = range(12_000, 22_000)
_given: set[int] = set()
BUS_OFFSET = 10_000

# Generous, for a slow machine: a server that does not get there has failed, and says why in its log.
START_SECONDS = 60.0
_POLL_SECONDS = 0.005


class ServerFailedError(Exception):
    """A server that ended, or did not do what it was waited for."""


def free_port() -> int:
    """A port on which nobody listens, and nobody on the one 10000 above; this process's own until it ends."""
    while True:
        port = random.choice(_PORTS)  # noqa: S311 - not a secret
        if _reserve(port) and _is_free(port) and _is_free(port + BUS_OFFSET):
            return port


@functools.cache
def _reservations() -> Path:
    """A file in which each byte is a port, shared by all processes of this user's tests."""
    path = Path(tempfile.gettempdir(), f"retrysafe-ports-{os.getuid()}")
    path.touch()
    return path


@functools.cache
def _reserving(_process: int) -> int:
    """The file, open until this process ends."""
    return os.open(_reservations(), os.O_RDWR)


def _reserve(port: int) -> bool:
    """Whether nobody had it before. A killed server's is free to bind, but its peers would find a stranger there."""
    if port in _given:
        return False
    try:
        fcntl.lockf(_reserving(os.getpid()), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    _given.add(port)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do, so that a port of which only closed connections linger counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Ask until the condition holds; an error of the network is a no.

    Raises:
        ServerFailedError: it does not hold after so many seconds.
    """
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError as error:
            last = error
        time.sleep(_POLL_SECONDS)
    raise ServerFailedError(f"not within {seconds} s: {what}") from last


class Guard:
    """The process that cleans up behind this one, and the directory that it removes."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="retrysafe-servers-"))
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("guard.py")), str(self.directory)],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,  # ctrl-C at the desk is for pytest alone
        )

    def started(self, pid: int) -> None:
        """A server to be killed at the end."""
        self._tell(f"+{pid}")

    def ended(self, pid: int) -> None:
        """A server that is gone, and whose number may become another process's."""
        self._tell(f"-{pid}")

    def end(self) -> None:
        """Kill the servers that still run, remove their data, and wait for it."""
        # Said, as the end of the input would not come while a forked child of the tests lives.
        self._tell(".")
        self._process.communicate()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


@functools.cache
def guard() -> Guard:
    """This process's guard, started with its first server."""
    return Guard()


def end_guard() -> None:
    """At the end of all tests. A test that starts a server after this gets a new guard."""
    if guard.cache_info().currsize:
        guard().end()
        guard.cache_clear()


class ServerProcess:
    """One server. A subclass says how it is started (`arguments`), and how it is asked (`is_ready`)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.host = HOST
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix=f"{name}-{self.port}-", dir=guard().directory))
        self.process: subprocess.Popen[bytes] | None = None

    def arguments(self) -> Sequence[str]:
        """The command line; the first is the program."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether it serves; an OSError counts as no."""
        raise NotImplementedError

    @property
    def environment(self) -> Mapping[str, str]:
        """What it is told beside what every process here is."""
        return {}

    @property
    def url(self) -> str:
        """Its address, for the clients."""
        raise NotImplementedError

    def at(self, host: str, port: int) -> Self:
        """The same server seen at another address, that of a proxy; to be asked, not to be started or stopped."""
        seen = copy.copy(self)
        seen.host, seen.port = host, port
        return seen

    @property
    def executable(self) -> str:
        """The program's file, where that is not the first argument."""
        return self.arguments()[0]

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} is not running"
        return self.process.pid

    @property
    def log(self) -> str:
        """What it printed, in all its lives."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it answers. With the data of its previous life, as far as it keeps any."""
        self.launch()
        wait_until(self._answers, f"an answer of {self.name} on port {self.port}")

    def launch(self) -> None:
        """Start it without waiting, for a server that answers only when others are there."""
        assert self.process is None, f"{self.name} runs already"
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                list(self.arguments()),
                executable=self.executable,
                cwd=self.directory,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        guard().started(self.process.pid)

    def _answers(self) -> bool:
        self.check()
        return self.is_ready()

    def check(self) -> None:
        """Raises: ServerFailedError, with the end of its log, if it has ended by itself."""
        if self.process is not None and self.process.poll() is not None:
            raise ServerFailedError(f"{self.name} ended with {self.process.returncode}:\n{self.log[-4000:]}")

    def kill(self) -> None:
        """As a machine that loses power: no more word to anyone, nothing written."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, as an operator would, and wait for it."""
        self._end(signal.SIGTERM)

    def _end(self, by: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(by)
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)  # one that is frozen would not notice SIGTERM
        try:
            self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        guard().ended(self.process.pid)
        self.process = None

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same port and directory."""
        self.stop()
        self.start()

    def stop_process(self) -> None:
        """Freeze it: its connections stay, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def continue_process(self) -> None:
        """Go on where it was frozen."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
