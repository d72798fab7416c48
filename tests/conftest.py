"""What every test can ask for: a flavour (sync, async, async on a sync layer), and a clock that stands still."""

from __future__ import annotations

import pytest

from retrysafe.testing.clock import ManualClock
from support.flavours import FLAVOURS

pytest_plugins = ["servers.fixtures"]


@pytest.fixture(params=FLAVOURS, ids=lambda flavour: flavour.name)
def flavour(request):
    return request.param


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def events():
    """A list to hand in as `event_hook=events.append`."""
    return []
