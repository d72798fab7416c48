"""What the tests of the SQLite layer share: a file, a clock to set, and a layer without records."""

from __future__ import annotations

import pytest

from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_support import SetClock


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.db"


@pytest.fixture
def make_disk():
    """Makes a disk of this kind to put under SQLite, where this Python lets it be replaced."""

    def make(kind):
        try:
            return kind()
        except RuntimeError as error:
            pytest.skip(str(error))

    return make


@pytest.fixture
def layer(path, clock):
    with SQLitePersistenceLayer(path, synchronous="off", clock=clock) as made:
        yield made
