"""Whether idempotency is switched off: by an environment variable, or by a test for what it calls itself.

The test's switch, `retrysafe.testing.idempotency_disabled`, is a context variable, so that it never reaches a thread or
task beside the test.
"""

from __future__ import annotations

import os
from contextvars import ContextVar

from retrysafe.environment import raw, raw_name
from retrysafe.warn import warn

VARIABLES = ("RETRYSAFE_DISABLED", "POWERTOOLS_IDEMPOTENCY_DISABLED")
TRUTHY = frozenset({"1", "true", "t", "yes", "y", "on"})

blocks: ContextVar[int] = ContextVar("retrysafe_disabled_blocks", default=0)
"""How many such blocks of tests the running thread or task is in."""

_OURS, _PEERS = map(raw_name, VARIABLES)


def is_off() -> bool:
    """Whether calls go straight through; looked up at each call, so that a test can change it."""
    if not blocks.get() and _OURS not in raw and _PEERS not in raw:
        return False
    return blocks.get() > 0 or _is_off_by_variable()


def _is_off_by_variable() -> bool:
    for variable in VARIABLES:
        if os.environ.get(variable, "").lower() in TRUTHY:
            warn(f"idempotency is switched off by {variable}")
            return True
    return False
