"""The servers that the benchmarks measure on: the tests' own, started here for the time of a section."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from servers import DynamoDBServer, RedisServer, programs  # found only now
from servers.dynamodb import dynamodb_local as make_dynamodb_local
from servers.dynamodb import dynoxide as make_dynoxide
from servers.processes import end_guard

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def valkey() -> Iterator[RedisServer]:
    """Valkey 9.1, with nothing kept on the disk."""
    server = RedisServer(programs.valkey_91())
    server.start()
    try:
        yield server
    finally:
        server.stop()
        end_guard()


@contextlib.contextmanager
def dynoxide() -> Iterator[DynamoDBServer]:
    """The fastest server that speaks DynamoDB's interface, so that it hides least."""
    server = make_dynoxide()
    server.start()
    try:
        yield server
    finally:
        server.stop()
        end_guard()


@contextlib.contextmanager
def dynamodb_local() -> Iterator[DynamoDBServer]:
    """DynamoDB Local, AWS's own."""
    server = make_dynamodb_local()
    server.start()
    try:
        yield server
    finally:
        server.stop()
        end_guard()
