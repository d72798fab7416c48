"""What the tests of groups share: a disk to watch and to break, a layer on it, and another program's connection."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.slow_disk import Disk
from support.sqlite_support import SetClock, claim


@pytest.fixture
def disk(make_disk):
    with make_disk(Disk) as made:
        yield made


@pytest.fixture
def layer(path, disk):
    with SQLitePersistenceLayer(path, busy_timeout_seconds=30, clock=SetClock()) as made:
        made._turns = iter(range(1, 10_000, 64))  # no sweeps
        made._put_record(claim("standing"))
        disk.syncs = 0
        yield made


@pytest.fixture
def by_hand(path, layer):
    """Another program's connection to the same file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection
