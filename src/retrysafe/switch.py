"""Whether idempotency is switched off: by an environment variable, or by a test for what it calls itself.

The test's switch, `retrysafe.testing.idempotency_disabled`, is a context variable, so that it never reaches a thread or
task beside the test.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from retrysafe.warn import warn

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLES = ("RETRYSAFE_DISABLED", "POWERTOOLS_IDEMPOTENCY_DISABLED")
TRUTHY = frozenset({"1", "true", "t", "yes", "y", "on"})

blocks: ContextVar[int] = ContextVar("retrysafe_disabled_blocks", default=0)
"""How many such blocks of tests the running thread or task is in."""

# The mapping below os.environ answers in a tenth of the time, which every replay would else spend here.
_environment: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
_variables = tuple(
    (name, name if _environment is os.environ else getattr(os.environ, "encodekey", str)(name)) for name in VARIABLES
)


def is_off() -> bool:
    """Whether calls go straight through; looked up at each call, so that a test can change it."""
    if blocks.get():
        return True
    for variable, encoded in _variables:
        if encoded in _environment and os.environ.get(variable, "").lower() in TRUTHY:
            warn(f"idempotency is switched off by {variable}")
            return True
    return False
