"""A clock that a test moves, for servers that judge by their own: no test waits for a lease or a window to end.

libfaketime, loaded before the server's own libraries, answers whoever asks for the time, and looks into a file for how
far it is off. Redis 7.0 as Debian builds it hangs under it; all the others bear it.
"""

from __future__ import annotations

import datetime as dt
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from servers.processes import guard, wait_until
from servers.programs import libfaketime

if TYPE_CHECKING:
    from collections.abc import Iterable

    from servers.standalone import RedisServer

# The file says milliseconds.
_ROUNDING_MS = 1


class ServerClock:
    """Shows the machine's time, and runs, until a test moves or stops it. One can serve several servers."""

    def __init__(self) -> None:
        self._library = libfaketime()
        self._file = Path(tempfile.mkdtemp(prefix="clock-", dir=guard().directory), "time")
        self._ahead_ms = 0
        self._stopped_at_ms: int | None = None
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
            "TZ": "UTC",
        }

    def now_ms(self) -> int:
        """What it shows, in milliseconds since the epoch."""
        if self._stopped_at_ms is not None:
            return self._stopped_at_ms
        return time.time_ns() // 1_000_000 + self._ahead_ms

    def advance(self, seconds: float, servers: Iterable[RedisServer]) -> None:
        """Move it on at once; a negative number moves it back. Wait until these servers, which run by it, know."""
        if self._stopped_at_ms is None:
            self._ahead_ms += round(seconds * 1000)
        else:
            self._stopped_at_ms += round(seconds * 1000)
        self._tell(servers)

    def stop_at(self, moment_ms: int, servers: Iterable[RedisServer]) -> None:
        """Have it stand still at this moment, until it is moved. Wait until these servers, which run by it, know.

        Valkey 9 looks at it less often, and counts on by itself in between: it stands still there to a millisecond.
        """
        self._stopped_at_ms = moment_ms
        self._tell(servers)

    def _tell(self, servers: Iterable[RedisServer]) -> None:
        self._write()
        for server in servers:
            wait_until(lambda each=server: self._is_shown_by(each), "a server that shows the time that was set")

    def _is_shown_by(self, server: RedisServer) -> bool:
        # In scripts, a server may show the time at which it last looked.
        earliest = self.now_ms() - _ROUNDING_MS
        seconds, microseconds = server.command("EVAL", "return redis.call('TIME')", 0)
        return earliest <= int(seconds) * 1000 + int(microseconds) // 1000 <= self.now_ms() + _ROUNDING_MS

    def _write(self) -> None:
        if self._stopped_at_ms is None:
            text = f"{self._ahead_ms / 1000:+.3f}"
        else:
            moment = dt.datetime.fromtimestamp(self._stopped_at_ms // 1000, tz=dt.UTC)
            # Half a millisecond more, as what is read is cut off after its last digit.
            text = f"{moment:%Y-%m-%d %H:%M:%S}.{self._stopped_at_ms % 1000:03}500"
        # In the place of the other one, as a server may be reading.
        following = self._file.with_suffix(".following")
        following.write_text(text)
        following.replace(self._file)
