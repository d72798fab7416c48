"""A TCP proxy whose connections a test can break at the worst moment: after the server has done what was asked.

It knows no protocol. A *request* is what a client sends until the server replies to it, so a pipeline or a transaction
sent at once is one request, and one round trip. Faults are told which request is meant by bytes in it, since clients
send some of their own when they connect (HELLO, CLIENT SETINFO, AUTH, SELECT): `b"EVALSHA"`, `b"\\r\\nSET\\r\\n"` (as
`b"SET"` is also in SETINFO), `b"PutItem"`. A fault assumes that a connection has one request under way, as those of
the synchronous clients have. What is encrypted can only be matched by `b""`, which is in everything.
"""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import threading
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar

from servers.processes import HOST, ServerProcess

_CHUNK = 1 << 16

S = TypeVar("S", bound=ServerProcess)


class Effect(enum.Enum):
    """What becomes of a request that a fault is for."""

    DROP_REPLY = "forward it, wait for the reply, and close the connection instead of handing it on"
    DROP_REQUEST = "close the connection instead of forwarding it"
    SWALLOW_REPLY = "forward it, and hand nothing on any more; the connection stays"


@dataclass(eq=False)
class Fault:
    """An armed fault. It strikes once, at the n-th request with these bytes from now on."""

    effect: Effect
    matching: bytes
    nth: int
    _struck: threading.Event = field(default_factory=threading.Event)

    @property
    def struck(self) -> bool:
        """Whether the server has replied, and so has done it; for DROP_REQUEST, whether the connection was cut."""
        return self._struck.is_set()

    def strike(self) -> None:
        """For the proxy, to say that it has happened."""
        self._struck.set()

    def wait(self, seconds: float = 20.0) -> None:
        """Wait until it has struck; an AssertionError if it does not."""
        assert self._struck.wait(seconds), f"no request with {self.matching!r} came, or no reply to it"


class Proxy(Generic[S]):
    """In front of any server; a context manager. Its address is its own, and stays when the server restarts."""

    def __init__(self, server: S) -> None:
        self._target = (server.host, server.port)
        self._lock = threading.Lock()
        self._connections: list[_Connection] = []
        self._faults: list[Fault] = []
        self._requests: list[bytearray] = []
        self._accepted = 0
        self._closing = False
        self._open = threading.Event()
        self._open.set()
        self._delay_seconds = 0.0
        self._healed = threading.Event()
        self._listener = socket.create_server((HOST, 0), backlog=128)
        self.host, self.port = HOST, self._listener.getsockname()[1]
        self.server = server.at(self.host, self.port)
        """The server as seen through this proxy: with its `url`, `command` and so on."""
        self._thread = threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, and cut all connections."""
        self._closing = True
        with contextlib.suppress(OSError):
            socket.create_connection((self.host, self.port)).close()  # wakes up accept
        self._thread.join()
        self._listener.close()
        connections = self._forget()
        for connection in connections:
            connection.close()
        self.heal()  # behind that, so that nothing held back is handed on
        for connection in connections:
            connection.join()

    # --- what a test sees ---------------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[bytes]:
        """All requests since the last `forget_requests`, in order of their first byte; the last may still be coming."""
        with self._lock:
            return [bytes(request) for request in self._requests]

    def count(self, matching: bytes = b"") -> int:
        """How many requests have these bytes: how many round trips."""
        return sum(matching in request for request in self.requests)

    def forget_requests(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self._requests.clear()

    @property
    def accepted(self) -> int:
        """How many connections clients have made, in all."""
        return self._accepted

    # --- what a test does ---------------------------------------------------------------------------------------------

    def drop_reply(self, matching: bytes = b"", nth: int = 1) -> Fault:
        """Let the server apply the n-th such request, and cut the connection instead of handing its reply on."""
        return self._arm(Fault(Effect.DROP_REPLY, matching, nth))

    def drop_request(self, matching: bytes = b"", nth: int = 1) -> Fault:
        """Cut the connection instead of forwarding the n-th such request: the server never hears of it."""
        return self._arm(Fault(Effect.DROP_REQUEST, matching, nth))

    def swallow_reply(self, matching: bytes = b"", nth: int = 1) -> Fault:
        """Let the server apply the n-th such request, and hand nothing on: the client waits, until it times out."""
        return self._arm(Fault(Effect.SWALLOW_REPLY, matching, nth))

    def disarm(self) -> None:
        """Forget the faults that have not struck yet."""
        with self._lock:
            self._faults.clear()

    def cut(self) -> None:
        """Close all connections. New ones are accepted."""
        for connection in self._forget():
            connection.close()

    def black_hole(self) -> None:
        """Hand nothing on any more, in either direction, until `heal`. Connections stay, and new ones are accepted."""
        self._open.clear()

    def lead_to(self, server: ServerProcess) -> None:
        """Take new connections to another server. Those that there are stay where they are."""
        self._target = (server.host, server.port)

    def delay(self, seconds: float) -> None:
        """Hold back each part of a reply for so long, until `heal`."""
        self._healed.clear()
        self._delay_seconds = seconds

    def heal(self) -> None:
        """End of `black_hole` and `delay`. What was held back is handed on, also if its sender has gone by now."""
        self._delay_seconds = 0.0
        self._healed.set()
        self._open.set()

    # --- for the connections ------------------------------------------------------------------------------------------

    def begin_request(self) -> bytearray:
        """Enter a new request; the connection adds its bytes with `add`."""
        with self._lock:
            self._requests.append(request := bytearray())
        return request

    def add(self, request: bytearray, data: bytes, ruled_out: set[Fault]) -> Fault | None:
        """Add bytes to a request, and see whether they complete what a fault waits for."""
        with self._lock:
            request += data
            for fault in self._faults:
                if fault in ruled_out or fault.matching not in request:
                    continue
                ruled_out.add(fault)  # one request counts once, however many parts it comes in
                fault.nth -= 1
                if fault.nth == 0:
                    self._faults.remove(fault)
                    return fault
        return None

    def pass_gate(self) -> None:
        """Wait while nothing is to pass."""
        self._open.wait()

    def pass_delay(self) -> None:
        """Wait as long as a reply is to be held back."""
        if self._delay_seconds:
            self._healed.wait(self._delay_seconds)

    def _arm(self, fault: Fault) -> Fault:
        assert fault.nth >= 1
        with self._lock:
            self._faults.append(fault)
        return fault

    def _forget(self) -> list[_Connection]:
        with self._lock:
            connections, self._connections = self._connections, []
        return connections

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closing:
                client.close()
                return
            self._accepted += 1
            try:
                server = socket.create_connection(self._target)
            except OSError:  # nobody there
                client.close()
                continue
            with self._lock:
                self._connections.append(_Connection(self, client, server))


class _Connection:
    """A client's connection and the one to the server that belongs to it, served by one thread."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._fault: Fault | None = None
        self._mute = False
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._run, name=f"proxy-{proxy.port}-connection", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Have both ends closed, by the thread that reads them."""
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        with self._client, self._server, contextlib.suppress(OSError):
            request: bytearray | None = None
            ruled_out: set[Fault] = set()
            while True:
                readable, _, _ = select.select([self._client, self._server], [], [])
                # The reply first: bytes of the client behind it belong to the next request.
                if self._server in readable:
                    if not self._reply():
                        return
                    request = None
                if self._client in readable:
                    if request is None:
                        request = self._proxy.begin_request()
                        ruled_out.clear()
                    if not self._request(request, ruled_out):
                        return

    def _request(self, request: bytearray, ruled_out: set[Fault]) -> bool:
        """Hand on some bytes of the client. False: the connection is over."""
        data = self._client.recv(_CHUNK)
        if not data:
            return False
        fault = self._proxy.add(request, data, ruled_out)
        self._proxy.pass_gate()
        if fault is not None and fault.effect is Effect.DROP_REQUEST:
            fault.strike()
            return False
        self._fault = self._fault or fault
        self._server.sendall(data)
        return True

    def _reply(self) -> bool:
        """Hand on some bytes of the server, or not. False: the connection is over."""
        data = self._server.recv(_CHUNK)
        if not data:
            return False
        if self._fault is not None:
            self._mute = True
            self._fault.strike()
            if self._fault.effect is Effect.DROP_REPLY:
                return False
        if self._mute:
            return True
        self._proxy.pass_delay()
        self._proxy.pass_gate()
        self._client.sendall(data)
        return True
