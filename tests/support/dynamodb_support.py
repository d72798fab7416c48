"""DynamoDB for tests: tables of one's own, clients that are made once, and a service in front that can refuse."""

from __future__ import annotations

import contextlib
import functools
import http.client
import itertools
import json
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import boto3
from aiobotocore.session import get_session
from botocore.config import Config

from retrysafe.clock import SystemClock
from retrysafe.persistence.dynamodb import AsyncDynamoDBPersistenceLayer, DynamoDBPersistenceLayer

_tables = itertools.count(1)


def new_table(server, key="id", sort_key=None):
    """A table of one's own on the server."""
    name = f"table-{next(_tables)}"
    server.create_table(name, key, sort_key)
    return name


@functools.cache
def session():
    """A session of boto3; its models are loaded once."""
    return boto3.Session("test", "test", region_name="eu-central-1")


@functools.cache
def async_session():
    """The same of aiobotocore."""
    made = get_session()
    made.set_credentials("test", "test")
    made.set_config_variable("region", "eu-central-1")
    return made


@functools.cache
def client_at(url):
    """A client of boto3 that tries once."""
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=50)
    return session().client("dynamodb", endpoint_url=url, config=config)


def sync_layer(server, table, **options):
    """A layer that opens its client by itself."""
    return DynamoDBPersistenceLayer(table, boto3_session=session(), endpoint_url=server.url, **options)


def async_layer(server, table, **options):
    """The same, asynchronous."""
    return AsyncDynamoDBPersistenceLayer(table, session=async_session(), endpoint_url=server.url, **options)


def items_of(server, table):
    """Everything in the table."""
    return client_at(server.url).scan(TableName=table, ConsistentRead=True)["Items"]


class OffClock(SystemClock):
    """The machine's clock, were it set otherwise; `ahead_ms` may change while it runs."""

    __slots__ = ("ahead_ms",)

    def __init__(self, ahead_ms=0):
        self.ahead_ms = ahead_ms

    def now_ms(self):
        return super().now_ms() + self.ahead_ms


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

    def __init__(self, server):
        self.server = server
        self.refusals = []
        self.requests = []
        self.ahead_seconds = 0
        self.slow_seconds = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def refuse(self, operation, code, message="no", *, status=400, times=1):
        self.refusals += [(operation, status, code, message)] * times

    def _answer(self, operation, body, headers):
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

    def _handler(self):
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
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

            def log_message(self, *_):
                pass

        return Handler


NOWHERE = SimpleNamespace(host="127.0.0.1", port=9, url="http://127.0.0.1:9")
"""A server that is not there."""
