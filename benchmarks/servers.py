"""What the benchmarks measure on: the tests' own servers, started for the time of a section, disks, and Lambda."""

from __future__ import annotations

import atexit
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from servers import DynamoDBServer, RedisServer, programs  # found only now
from servers.dynamodb import dynamodb_local as make_dynamodb_local
from servers.dynamodb import dynoxide as make_dynoxide
from servers.processes import ServerProcess, end_guard
from support.lambda_runtime import LambdaRuntime
from support.slow_disk import Disk

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MISSING",
    "Disk",
    "DynamoDBServer",
    "LambdaRuntime",
    "RedisServer",
    "dynamodb_local",
    "dynoxide",
    "redis_70",
    "valkey",
]

S = TypeVar("S", bound=ServerProcess)

atexit.register(end_guard)

MISSING = (pytest.skip.Exception, pytest.fail.Exception)
"""What says that a server's program is missing, and how to get it; the second where CI is set."""


def valkey() -> contextlib.AbstractContextManager[RedisServer]:
    """Valkey 9.1, with nothing kept on the disk."""
    return _running(RedisServer(programs.valkey_91()))


def redis_70() -> contextlib.AbstractContextManager[RedisServer]:
    """Redis 7.0, with nothing kept on the disk."""
    return _running(RedisServer(programs.redis_70()))


def dynoxide() -> contextlib.AbstractContextManager[DynamoDBServer]:
    """The fastest server that speaks DynamoDB's interface, so that it hides least."""
    return _running(make_dynoxide())


def dynamodb_local() -> contextlib.AbstractContextManager[DynamoDBServer]:
    """Amazon's own server for a desk."""
    return _running(make_dynamodb_local())


@contextlib.contextmanager
def _running(server: S) -> Iterator[S]:
    server.start()
    try:
        yield server
    finally:
        server.stop()
