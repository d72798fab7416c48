"""Lambda's Runtime API for one environment: hands out invocations, takes their answers and errors.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import contextlib
import json
import queue
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REGION = "eu-central-1"
VERSION = "2018-06-01"


def now_ms() -> int:
    """The wall clock, which is also what the runtime client measures the remaining time with."""
    return time.time_ns() // 1_000_000


@dataclass
class Work:
    """One invocation on its way through the Runtime API."""

    body: bytes
    timeout_seconds: float
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    deadline_ms: int = 0
    handed_out: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    is_error: bool = False
    result: bytes = b""


class RuntimeApi(ThreadingHTTPServer):
    """The Runtime API of one environment, on a port of its own. Several of its processes may ask for work."""

    # Closing the server then waits for its threads.
    daemon_threads = False

    def __init__(self, function_name: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.arn = f"arn:aws:lambda:{REGION}:123456789012:function:{function_name}"
        self.work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self.under_way: dict[str, Work] = {}
        self.init_error: dict[str, Any] | None = None
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self.work.put(None)
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A process that was killed in the middle of a request is no fault."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RuntimeApi

    def do_GET(self) -> None:
        if self.path != f"/{VERSION}/runtime/invocation/next":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        work = self.server.work.get()
        if work is None:  # the process is gone, and others that ask
            self.server.work.put(None)
            self.close_connection = True
            return
        self.server.under_way[work.request_id] = work
        work.deadline_ms = now_ms() + round(work.timeout_seconds * 1000)
        trace_id = f"{work.deadline_ms // 1000:08x}-{work.request_id.replace('-', '')[:24]}"
        self._reply(
            HTTPStatus.OK,
            work.body,
            {
                "Lambda-Runtime-Aws-Request-Id": work.request_id,
                "Lambda-Runtime-Deadline-Ms": str(work.deadline_ms),
                "Lambda-Runtime-Invoked-Function-Arn": self.server.arn,
                "Lambda-Runtime-Trace-Id": f"Root=1-{trace_id};Parent=0000000000000001;Sampled=0",
            },
            announce=work.handed_out,
        )

    def do_POST(self) -> None:
        body = self._body()
        path = self.path.removeprefix(f"/{VERSION}/runtime/")
        if path == "init/error":
            self.server.init_error = json.loads(body)
            self._reply(HTTPStatus.ACCEPTED, b'{"status":"OK"}')
            return
        invocation, _, ending = path.rpartition("/")
        work = self.server.under_way.pop(invocation.removeprefix("invocation/"), None)
        if work is None or ending not in ("response", "error"):
            self.send_error(HTTPStatus.BAD_REQUEST, "no such invocation")
            return
        work.is_error = ending == "error"
        work.result = body
        self._reply(HTTPStatus.ACCEPTED, b'{"status":"OK"}', announce=work.ended)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _reply(
        self,
        status: HTTPStatus,
        body: bytes,
        headers: dict[str, str] | None = None,
        announce: threading.Event | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        with contextlib.suppress(ConnectionError):  # who asked may be killed by now
            self.end_headers()
            self.wfile.write(body)
        if announce is not None:
            announce.set()

    def log_message(self, *_) -> None:
        """Requests are not logged; a test shows what the processes wrote."""
