"""Tools for tests: of a persistence layer, and of a program that uses retrysafe. Nothing here needs pytest."""

from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import PersistenceLayerContract
from retrysafe.testing.failing import AsyncFailingLayer, FailingLayer
from retrysafe.testing.switch import idempotency_disabled

__all__ = [
    "AsyncFailingLayer",
    "FailingLayer",
    "ManualClock",
    "PersistenceLayerContract",
    "idempotency_disabled",
]
