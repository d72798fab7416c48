"""The Redis protocol, as much of it as a test needs to look into a server behind the clients' backs."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, BinaryIO, Self

if TYPE_CHECKING:
    import ssl

_SECONDS = 10.0


class ReplyError(Exception):
    """What the server refused, in its own words."""


class Connection:
    """One connection; a context manager. Replies are bytes, int, None or lists of them."""

    def __init__(self, host: str, port: int, *, password: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._socket = socket.create_connection((host, port), timeout=_SECONDS)
        try:
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=host)
            self._replies = self._socket.makefile("rb")
            if password is not None:
                self.command("AUTH", password)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._replies.close()
        self._socket.close()

    def command(self, *arguments: str | bytes | int) -> Any:
        """Send a command, return its reply.

        Raises:
            ReplyError: the server's answer is an error.
            ConnectionError: it went away before it answered, or still loads its data.
        """
        self.send(*arguments)
        return _read(self._replies)

    def send(self, *arguments: str | bytes | int) -> None:
        """Send without waiting for the reply."""
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in arguments]
        self._socket.sendall(
            b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts),
        )


def _read(replies: BinaryIO) -> Any:
    line = replies.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the connection was closed before the reply had come")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        if rest.startswith(b"LOADING"):
            raise ConnectionRefusedError(rest.decode())
        raise ReplyError(rest.decode())
    if kind == b"+":
        return rest
    size = int(rest)
    if kind == b":":
        return size
    if size < 0:
        return None
    if kind == b"*":
        return [_read(replies) for _ in range(size)]
    value = replies.read(size + 2)
    if len(value) != size + 2:
        raise ConnectionResetError("the connection was closed within the reply")
    return value[:-2]
