"""A clock that a test moves, for servers that judge by their own: no test waits for a lease or a window to end.

libfaketime, loaded before the server's own libraries, answers whoever asks for the time, and looks into a file for how
far it is off. Redis 7.0 as Debian builds it hangs under it; all the others bear it.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from servers.processes import guard, wait_until
from servers.programs import libfaketime

if TYPE_CHECKING:
    from collections.abc import Iterable

    from servers.standalone import RedisServer

# The two clocks are compared to the microsecond, and the file says milliseconds.
_ROUNDING_SECONDS = 0.001


class ServerClock:
    """Shows the machine's time, and runs, until it is advanced. One can serve several servers."""

    def __init__(self) -> None:
        self._library = libfaketime()
        self._file = Path(tempfile.mkdtemp(prefix="clock-", dir=guard().directory), "offset")
        self._ahead_seconds = 0.0
        self._write()

    @property
    def environment(self) -> dict[str, str]:
        """What a server is started with."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            # Else the file is looked at every ten seconds.
            "FAKETIME_NO_CACHE": "1",
            # Time that only measures how long things take goes on as it is.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def now(self) -> float:
        """What it shows, in seconds since the epoch."""
        return time.time() + self._ahead_seconds

    def advance(self, seconds: float, servers: Iterable[RedisServer]) -> None:
        """Move it on at once; a negative number moves it back. Wait until these servers, which run by it, know."""
        self._ahead_seconds += seconds
        self._write()
        for server in servers:
            wait_until(lambda each=server: self._is_shown_by(each), "a server that shows the time that was set")

    def _is_shown_by(self, server: RedisServer) -> bool:
        # In scripts, a server may show the time at which it last looked.
        earliest = self.now() - _ROUNDING_SECONDS
        seconds, microseconds = server.command("EVAL", "return redis.call('TIME')", 0)
        return earliest <= int(seconds) + int(microseconds) / 1e6 <= self.now() + _ROUNDING_SECONDS

    def _write(self) -> None:
        # In the place of the other one, as a server may be reading.
        following = self._file.with_suffix(".following")
        following.write_text(f"{self._ahead_seconds:+.3f}")
        following.replace(self._file)
