"""Tools for tests: of a persistence layer, and of a program that uses retrysafe. Nothing here needs pytest."""

from retrysafe.testing.clock import ManualClock
from retrysafe.testing.contract import PersistenceLayerContract
from retrysafe.testing.crash_report import CrashPoint, CrashPointsError, CrashReport
from retrysafe.testing.crashes import crash_points
from retrysafe.testing.failing import AsyncFailingLayer, FailingLayer
from retrysafe.testing.switch import idempotency_disabled

__all__ = [
    "AsyncFailingLayer",
    "CrashPoint",
    "CrashPointsError",
    "CrashReport",
    "FailingLayer",
    "ManualClock",
    "PersistenceLayerContract",
    "crash_points",
    "idempotency_disabled",
]
