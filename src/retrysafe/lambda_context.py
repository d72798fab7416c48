"""The Lambda invocation under way, which gives a lease its length.

It is held in a context variable, so that invocations that run side by side in one process don't mix, and so that
a function called inside a handler knows the invocation without being handed it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

current: ContextVar[Any] = ContextVar("retrysafe_lambda_context", default=None)


def remaining_ms(context: Any) -> int | None:
    """Milliseconds until Lambda ends the invocation; None without a context, or with one that is over.

    A context whose time is over belongs to an earlier invocation (a running one is ended at that moment), so it
    says nothing about this one. Source: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """
    ask = getattr(context, "get_remaining_time_in_millis", None)
    if ask is None:
        return None
    left = int(ask())
    return left if left > 0 else None


def unwrap(context: Any) -> tuple[Any, str | None, bool]:
    """Take the Lambda context out of a durable one.

    Returns:
        The Lambda context; the durable execution's own name, or None for a plain invocation; and whether the
        execution is being replayed, which it is once more than one operation is recorded.
    """
    operations = getattr(getattr(context, "state", None), "operations", None)
    if operations is None or not hasattr(context, "lambda_context"):
        return context, None, False
    arn = getattr(context.state, "durable_execution_arn", None)
    return context.lambda_context, None if arn is None else str(arn), len(operations) > 1
