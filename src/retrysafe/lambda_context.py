"""The Lambda invocation under way, which gives a lease its length.

It is held in a context variable, so that invocations that run side by side in one process don't mix, and so that
a function called inside a handler knows the invocation without being handed it.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any

from retrysafe.environment import raw, raw_name
from retrysafe.exceptions import IdempotencyConfigError

_TRACE = raw_name("_X_AMZN_TRACE_ID")
# Values are encoded as names are, on Linux, where Lambda runs.
_KIND, _MANAGED = raw_name("AWS_LAMBDA_INITIALIZATION_TYPE"), raw_name("lambda-managed-instances")

# The context, and the trace under which it was registered.
_registered: ContextVar[tuple[Any, Any] | None] = ContextVar("retrysafe_lambda_context", default=None)


def register(context: Any) -> Token[tuple[Any, Any] | None]:
    """Say which invocation is under way in this thread or task; give the token to `unregister` where it ends."""
    return _registered.set((context, raw.get(_TRACE)))


def unregister(token: Token[tuple[Any, Any] | None]) -> None:
    """Go back to the context that held before.

    A coroutine may end in another context than it began in; there is nothing to go back to then, and its answer stays.
    """
    try:  # noqa: SIM105  # suppress() would cost each call a microsecond
        _registered.reset(token)
    except ValueError:
        pass


def current() -> Any:
    """The context of the invocation under way; None outside of one.

    A warm process keeps what an earlier invocation registered. The runtime gives each invocation a trace of its own,
    so a context registered under another one is over.
    Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html (_X_AMZN_TRACE_ID)
    """
    registered = _registered.get()
    if registered is None or registered[1] != raw.get(_TRACE):
        return None
    return registered[0]


def remaining_ms(context: Any) -> int | None:
    """Milliseconds until Lambda ends the invocation; None without a context, with one that is over, or if it goes on.

    A context whose time is over belongs to an earlier invocation (a running one is ended at that moment), so it
    says nothing about this one. Source: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html

    On Managed Instances nothing is ended: after the deadline the caller gets an error, and the code runs on.
    Source: https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-execution-environment.html
    """
    ask = getattr(context, "get_remaining_time_in_millis", None)
    if ask is None or raw.get(_KIND) == _MANAGED:
        return None
    try:
        left = int(ask())
    except (TypeError, ValueError, OverflowError) as error:  # a class, or what a test made up
        raise IdempotencyConfigError(
            f"get_remaining_time_in_millis() of the Lambda context {type(context).__name__} must give milliseconds",
            error,
        ) from error
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
