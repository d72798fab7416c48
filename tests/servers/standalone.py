"""One Redis or Valkey server, by itself."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from servers.processes import ServerProcess
from servers.resp import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from servers.certificates import Certificates
    from servers.clocks import ServerClock

NEVER_SECONDS = 2_000_000


class RedisServer(ServerProcess):
    """Keeps nothing on disk unless told so, by `{"appendonly": "yes"}`.

    Args:
        program: one of `servers.programs`.
        password: what AUTH demands, for the default user.
        certificates: serve TLS alone, with these.
        options: more lines of redis.conf, name to value; they win over those given here.
        clock: what it takes for the time, instead of the machine's.
    """

    def __init__(
        self,
        program: Path,
        *,
        password: str | None = None,
        certificates: Certificates | None = None,
        options: Mapping[str, str] | None = None,
        clock: ServerClock | None = None,
    ) -> None:
        super().__init__("valkey" if "valkey" in program.name else "redis")
        self.program = program
        self.password = password
        self.certificates = certificates
        self.options = dict(options or {})
        self.clock = clock

    @property
    def url(self) -> str:
        """For the clients; with TLS they need `certificates.authority` too."""
        scheme = "redis" if self.certificates is None else "rediss"
        login = "" if self.password is None else f":{self.password}@"
        return f"{scheme}://{login}{self.host}:{self.port}/0"

    @property
    def executable(self) -> str:
        return str(self.program)

    @property
    def environment(self) -> Mapping[str, str]:
        return {} if self.clock is None else self.clock.environment

    def arguments(self) -> Sequence[str]:
        options = {
            "bind": self.host,
            "port": str(self.port),
            "dir": str(self.directory),
            "save": "",
            "appendonly": "no",
            # Replicas are told of writes without the pause that would gather several of them.
            "repl-diskless-sync-delay": "0",
        }
        if self.clock is not None:
            # A replica whose clock is moved must not think that its master was silent since.
            options["repl-timeout"] = str(NEVER_SECONDS)
        if self.password is not None:
            options |= {"requirepass": self.password, "masterauth": self.password}
        if self.certificates is not None:
            options |= {
                "port": "0",
                "tls-port": str(self.port),
                "tls-cert-file": str(self.certificates.certificate),
                "tls-key-file": str(self.certificates.key),
                "tls-ca-cert-file": str(self.certificates.authority),
                "tls-auth-clients": "no",
            }
        options |= self.options
        # The name by which it is called decides what the program does.
        return [f"{self.name}-server", *(part for name, value in options.items() for part in (f"--{name}", value))]

    def is_ready(self) -> bool:
        return self.command("PING") == b"PONG"

    def connect(self) -> Connection:
        """A connection past every client library, for a test to close."""
        tls = ssl.create_default_context(cafile=self.certificates.authority) if self.certificates else None
        return Connection(self.host, self.port, password=self.password, tls=tls)

    def command(self, *arguments: str | bytes | int) -> Any:
        """One command, on a connection of its own; the reply as bytes, int, None or a list of them."""
        with self.connect() as connection:
            return connection.command(*arguments)

    def info(self, section: str = "everything") -> dict[str, str]:
        """INFO, as a dict."""
        lines = self.command("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def advance(self, seconds: float) -> None:
        """Move its clock on."""
        assert self.clock is not None, "its clock is the machine's"
        self.clock.advance(seconds, [self])

    def stop_clock_at(self, moment_ms: int) -> None:
        """Have its clock stand still, until it is moved."""
        assert self.clock is not None, "its clock is the machine's"
        self.clock.stop_at(moment_ms, [self])

    @property
    def version(self) -> str:
        """Such as 7.0.15. Valkey's own, not the version of Redis that it names for compatibility."""
        info = self.info("server")
        return info.get("valkey_version") or info["redis_version"]

    @property
    def role(self) -> str:
        """`master` or `slave`, as it calls itself."""
        return self.command("ROLE")[0].decode()
