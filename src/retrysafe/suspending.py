"""How a durable execution that suspends itself keeps its key until a later invocation goes on. Rules of the protocol.

Source: https://docs.aws.amazon.com/lambda/latest/dg/durable-functions.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retrysafe.persistence.datarecord import INPROGRESS, DataRecord
from retrysafe.wishes import Claim, Fetch

if TYPE_CHECKING:
    from retrysafe.call import Call
    from retrysafe.wishes import Flow

_SUSPENDS: Final = "SuspendExecution"
"""The class of AWS's durable SDK, which is not imported for it."""


def hold(call: Call, error: BaseException) -> Flow[None]:
    """Move the lease on to the end of a window, since nothing renews it until then; not where its length is set.

    Args:
        call: A call that has not ended.
        error: What passed `except Exception`. What is no suspension may come before the execution has recorded
            anything; its next invocation is no replay then, and would not know the key that was kept for it.
    """
    if not call.is_durable or _SUSPENDS not in (each.__name__ for each in type(error).__mro__):
        return
    call.resumes = True
    if call.plan.config.in_progress_expires_after_seconds is None:
        found = yield from Fetch(call.idempotency_key)
        if isinstance(found, DataRecord) and found.stored_status == INPROGRESS and found.owner == call.owner:
            yield from Claim(call.claim(replaces=found, attempt=found.attempt))
