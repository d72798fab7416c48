"""DynamoDB as it is reached: a service in front of a server, which counts, can refuse, and says what time it has."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

    from servers.dynamodb import DynamoDBServer

# What the request of an outcome has, and no other.
OUTCOME = b'"data": {"S"'

KEPT = ("x-", "authorization", "content-type")


class Service:
    """DynamoDB as it is reached: hands on to a server, unless told to refuse, and says what time it has.

    Attributes:
        refusals: `(operation, status, code, message)`; each is answered once, to the next such request.
        requests: The operations asked for, in order, refused or not; a PutItem that is an outcome is called so.
        ahead_seconds: How far ahead its `Date` is; None for a reply without one.
        slow_seconds: How long it takes to answer.
    """

    def __init__(self, server: DynamoDBServer) -> None:
        self.server = server
        self.refusals: list[tuple[str, int, str, str]] = []
        self.requests: list[str] = []
        self.ahead_seconds: float | None = 0
        self.slow_seconds: float = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def refuse(self, operation: str, code: str, message: str = "no", *, status: int = 400, times: int = 1) -> None:
        """Answer the next such requests with this error."""
        self.refusals += [(operation, status, code, message)] * times

    def _answer(self, operation: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        if operation == "PutItem" and OUTCOME in body:
            operation = "outcome"
        self.requests.append(operation)
        if self.slow_seconds:
            time.sleep(self.slow_seconds)
        for refusal in self.refusals:
            if refusal[0] == operation:
                self.refusals.remove(refusal)
                _, status, code, message = refusal
                kind = f"com.amazonaws.dynamodb.v20120810#{code}"
                return status, json.dumps({"__type": kind, "message": message}).encode()
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", "/", body, headers)
            response = connection.getresponse()
            return response.status, response.read()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                operation = self.headers["X-Amz-Target"].rpartition(".")[2]
                kept = {name: value for name, value in self.headers.items() if name.lower().startswith(KEPT)}
                status, answer = service._answer(operation, body, kept)
                self.send_response_only(status)
                if service.ahead_seconds is not None:
                    self.send_header("Date", formatdate(time.time() + service.ahead_seconds, usegmt=True))
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
