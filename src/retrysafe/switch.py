"""The switch of `retrysafe.testing.idempotency_disabled`: how many such blocks the running thread or task is in.

It is a context variable, so that a test switches idempotency off for what it calls itself, and never for a thread or
task beside it.
"""

from __future__ import annotations

from contextvars import ContextVar

blocks: ContextVar[int] = ContextVar("retrysafe_disabled_blocks", default=0)
