"""Claims on an SQLite layer, for tests: which record keeps one out, and when leases and windows are over."""

from __future__ import annotations

import pytest

from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
from support.sqlite_support import LEASE_MS, START_MS, WINDOW_S

AFTER_LEASE = START_MS + LEASE_MS + 1
AFTER_WINDOW = START_MS + (WINDOW_S + 1) * 1000


def found_by(layer, record):
    """The record that keeps this claim out."""
    with pytest.raises(IdempotencyItemAlreadyExistsError) as caught:
        layer._put_record(record)
    return caught.value.old_data_record
