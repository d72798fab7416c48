"""For tests of `crash_points`: functions whose own store must not be asked, and reports cut to what counts."""

from __future__ import annotations

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_function
from retrysafe.testing import FailingLayer


def untouchable():
    """A layer on which nothing works."""
    layer = FailingLayer(MemoryPersistenceLayer())
    for operation in ("get", "put", "update", "delete", "renew"):
        layer.fail(operation, error=AssertionError(f"the function's own layer was asked to {operation}"))
    return layer


def protected(function=None, **options):
    """An idempotent function whose own layer must not be asked; the options are the config's."""
    config = IdempotencyConfig(**options)
    decorate = idempotent_function(persistence_store=untouchable(), config=config, key_prefix="test")
    return decorate if function is None else decorate(function)


def found(report, verdict):
    """Where the report has this verdict: the line and the moment, for each point."""
    return [(point.source, point.what) for point in report.points if point.verdict == verdict]


def lines(report, verdict):
    """The lines before which a kill comes out like this."""
    return [point.source for point in report.points if point.verdict == verdict and point.kind == "line"]


class Provider:
    """A payment provider outside of the process, which knows a charge's key again."""

    def __init__(self):
        self.charges = []
        self.keys = set()

    def charge(self, order, key=None):
        if key is None or key not in self.keys:
            self.keys.add(key)
            self.charges.append(order)
        return f"receipt for {order}"

    def reset(self):
        self.charges.clear()
        self.keys.clear()


AROUND_A_CALL = [
    "before the claim was stored",
    "after the claim was stored; the reply is lost",
    "before the answer was stored",
    "after the answer was stored; the reply is lost",
]


def moments(report):
    return [point.what for point in report.points if point.kind == "store"]
