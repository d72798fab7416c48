"""What the benchmarks measure on: the tests' own servers, started for the time of a section, disks, and Lambda."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from servers import DynamoDBServer, RedisServer, programs  # found only now
from servers.dynamodb import dynoxide as make_dynoxide
from servers.processes import end_guard
from support.lambda_runtime import LambdaRuntime
from support.slow_disk import Disk

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Disk", "LambdaRuntime", "dynoxide", "valkey"]


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
