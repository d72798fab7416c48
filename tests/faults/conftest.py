"""A history to write, for the tests of the checker."""

from __future__ import annotations

import pytest

from faults.written import Written


@pytest.fixture
def history():
    return Written()
