"""The run of a function: begun, known to `current_execution()`, kept alive by a heartbeat, and what its end means."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

from retrysafe.exceptions import IdempotencyConfigError, IdempotencyLeaseLostError
from retrysafe.execution import Execution, forks
from retrysafe.heartbeat import heart
from retrysafe.heartbeat_async import start_async
from retrysafe.nesting import alive, current
from retrysafe.owed import UNSTARTED
from retrysafe.wishes import Ending, Invoke, Raised, Returned

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from retrysafe.call import Call
    from retrysafe.heartbeat import Beat
    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer


class Running(Execution):
    """The run under way: known to `current_execution()`, and kept alive by a heartbeat where the call has one."""

    __slots__ = ("_beat",)

    _beat: Beat | None

    def start(
        self,
        op: Invoke,
        store: BasePersistenceLayer | AsyncBasePersistenceLayer,
        start_beat: Callable[[Running], Beat],
    ) -> None:
        """The function is about to begin.

        Args:
            op: What runs.
            store: Where its record is kept.
            start_beat: Starts the heartbeat: `heart.start` for a sync run, `start_async` for an async one; or joins the
                one of a batch.
        """
        self.call = op.call
        self.claim = claim = op.claim
        self.store = store
        self.lease_end_ms = claim.in_progress_expiry_timestamp or 0
        self.lease_lost = False
        self.began_after = forks.times
        outer = current.get()
        self.outer = outer if outer is None else alive(outer)
        self.over = False
        self._beat = start_beat(self) if op.call.lease.renews else None
        current.set(self)

    def stop(self) -> None:
        """The function is over. The context may be another one than it began in; there is nothing to set back then."""
        if self._beat is not None:
            self._beat.stop(self)
        self.over = True
        if self.outer is not None:  # a context may outlive its run, as a task's does that began inside
            self.outer = alive(self.outer)
        if current.get() is self:
            current.set(self.outer)

    def abandon(self) -> None:
        """It could not begin, or a signal struck while it did: undo what was done for it."""
        self.over = True
        beat: Beat | None = getattr(self, "_beat", None)
        if beat is not None:
            beat.stop(self)
        if current.get() is self:
            current.set(self.outer)

    def returned(self, value: Any) -> Ending:
        """How it ends with this answer."""
        if self.began_after != forks.times:
            return Raised(_comes_back_in_child(self.call, value), self.lease_end_ms, suspended=True)
        if issubclass(type(value), UNSTARTED):
            return _refuse_unstarted(self.call, value)
        return Returned(value, self.lease_end_ms)

    def raised(self, error: BaseException) -> Ending:
        """How it ends with this exception."""
        # A durable execution that suspends itself says so by raising past `except Exception`. And where the function
        # forked and it is the child that raises, the run is not over: the key must not be free while the parent runs.
        suspended = self.call.is_durable and not isinstance(error, Exception)
        return Raised(error, self.lease_end_ms, suspended=suspended or self.is_copy())


def invoke(
    op: Invoke,
    store: BasePersistenceLayer,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    start_beat: Callable[[Running], Beat] | None = None,
    running: Running | None = None,
) -> Ending:
    """Run the function, once. The heartbeat is its own, unless something else is to start one."""
    if running is None:
        running = Running()
    try:
        running.start(op, store, heart.start if start_beat is None else start_beat)
    except BaseException as error:  # noqa: BLE001  # no heartbeat, no run: the protocol frees the key
        running.abandon()
        return Raised(error)
    try:
        # The dict calls it, for the answer that it lacks. Behind a call of its own this frame looks for signals, and an
        # interruption in the function's last moment would take with it what was returned.
        came: defaultdict[None, Any] = defaultdict(partial(function, *args, **kwargs))
        op.came = came[None]
    except BaseException as error:  # noqa: BLE001  # the protocol decides about each
        return running.raised(error)
    finally:
        try:
            running.stop()
        except BaseException:
            running.stop()  # a signal struck in there
            raise
    return running.returned(op.came)


async def invoke_async(
    op: Invoke,
    store: AsyncBasePersistenceLayer,
    function: Callable[..., Awaitable[Any]],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    start_beat: Callable[[Running], Beat] = start_async,
    running: Running | None = None,
) -> Ending:
    """`invoke`, awaiting the function."""
    if running is None:
        running = Running()
    try:
        running.start(op, store, start_beat)
    except BaseException as error:  # noqa: BLE001  # as in `invoke`
        running.abandon()
        return Raised(error)
    try:
        op.came = await answered(function(*args, **kwargs))
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001  # the protocol decides about each
        return running.raised(error)
    finally:
        try:
            running.stop()
        except BaseException:
            running.stop()  # a signal struck in there
            raise
    return running.returned(op.came)


async def answered(result: Any) -> Any:
    """What an asynchronous function's call comes to. One that was none has run: it is the answer."""
    # Asked of its class, as `await` does: an object that makes up its attributes has all of them, or fails at each.
    if hasattr(type(result), "__await__"):  # pyright: ignore[reportUnknownArgumentType]  # it can be any
        return await result
    return result


def _comes_back_in_child(call: Call, value: Any) -> IdempotencyLeaseLostError:
    return IdempotencyLeaseLostError(
        "the function forked off this process; its run goes on in the parent, and nothing is stored here",
        call.idempotency_key,
        response=value,
    )


def _refuse_unstarted(call: Call, value: Any) -> Raised:
    """A coroutine or generator as an answer has not run yet, so the key must not count as done."""
    kind: str = type(value).__name__
    with contextlib.suppress(Exception):  # one that had begun may refuse; an asynchronous generator cannot be closed so
        value.close()
    return Raised(
        IdempotencyConfigError(f"{call.plan.function_name} returned a {kind}, which has not run yet; nothing is stored")
    )
