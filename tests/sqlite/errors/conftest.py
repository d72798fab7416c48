"""What the tests of failures share: a layer with a record, which hardly waits, and another program's connection."""

from __future__ import annotations

import sqlite3

import pytest

from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_support import SetClock, claim


@pytest.fixture
def layer(path):
    made = SQLitePersistenceLayer(path, synchronous="off", busy_timeout_seconds=0.05, clock=SetClock())
    with made:
        made._put_record(claim())
        yield made


@pytest.fixture
def by_hand(path, layer):
    """Another program's connection to the same file."""
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()
