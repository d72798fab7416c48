"""The ports: each wish of the protocol as one call of a layer, synchronous and asynchronous.

Whatever a layer raises becomes an answer here, so that nothing passes the protocol by.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from retrysafe.clock import monotonic
from retrysafe.exceptions import (
    IdempotencyBaseError,
    IdempotencyInconsistentStateError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.wishes import Claim, Complete, Fetch, Lost, Op, Pause, Release, StoreFailed, Unstorable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.watch import AsyncWatch, Watch


def _unreadable_rival() -> StoreFailed:
    # One of its own for each call: an exception gathers the traceback of each raise.
    return StoreFailed(
        IdempotencyInconsistentStateError("the store refuses the claim, and has no record under its key")
    )


def claim_refused(error: BaseException) -> DataRecord | StoreFailed | None:
    """The record that stands; None where the layer does not tell it."""
    if isinstance(error, IdempotencyItemAlreadyExistsError):
        return error.old_data_record
    return StoreFailed(error)


def fetch_refused(error: BaseException) -> StoreFailed | None:
    """None where nothing stands."""
    return None if isinstance(error, IdempotencyItemNotFoundError) else StoreFailed(error)


def complete_refused(error: BaseException) -> StoreFailed | Lost | Unstorable:
    """Why the outcome is not stored."""
    if isinstance(error, IdempotencyLeaseLostError):
        return Lost(error.record)
    if isinstance(error, IdempotencyResponseUnavailableError):
        return Unstorable(error)
    return StoreFailed(error)


class SyncPorts:
    """Each wish of the protocol, as one call of a synchronous layer; failures become answers.

    Attributes:
        watch: What the layer gave a call that waits; whoever drives the call ends it with `unwatch`.
    """

    __slots__ = ("_store", "watch")

    def __init__(self, store: BasePersistenceLayer) -> None:
        self._store = store
        self.watch: Watch | None = None

    def claim(self, op: Claim, *, again: bool = False) -> DataRecord | StoreFailed | None:
        """See `wishes.Claim`."""
        try:
            self._store._put_record(op.record)
        except IdempotencyItemAlreadyExistsError as error:
            found: DataRecord | StoreFailed | None = error.old_data_record
        except BaseException as error:  # noqa: BLE001  # becomes an answer
            return StoreFailed(error)  # in no variable, since the error's traceback holds this frame
        else:
            return None
        if found is None:
            found = self.fetch(Fetch(op.record.idempotency_key))
        if found is None:
            return _unreadable_rival() if again else self.claim(op, again=True)
        return found

    def fetch(self, op: Fetch) -> DataRecord | StoreFailed | None:
        """See `wishes.Fetch`."""
        try:
            return self._store._get_record(op.idempotency_key)
        except BaseException as error:  # noqa: BLE001  # becomes an answer
            return fetch_refused(error)

    def complete(self, op: Complete) -> StoreFailed | Lost | Unstorable | None:
        """See `wishes.Complete`."""
        try:
            self._store._update_record(op.record)
        except BaseException as error:  # noqa: BLE001  # becomes an answer
            return complete_refused(error)
        return None

    def release(self, op: Release) -> StoreFailed | None:
        """See `wishes.Release`."""
        try:
            self._store._delete_record(op.record)
        except BaseException as error:  # noqa: BLE001  # becomes an answer
            return StoreFailed(error)
        return None

    def pause(self, op: Pause) -> float | StoreFailed:
        """See `wishes.Pause`."""
        try:
            if op.at_most is None or not self._watched(op, op.at_most):
                time.sleep(op.seconds)
        except BaseException as error:  # noqa: BLE001  # becomes an answer
            return StoreFailed(error)
        return monotonic()

    def unwatch(self) -> None:
        """The call waits no longer."""
        watch, self.watch = self.watch, None
        if watch is not None:
            with contextlib.suppress(Exception):  # the call has its ending, whatever a watch says to that
                watch.close()

    def _watched(self, op: Pause, at_most: float) -> bool:
        """Wait for a change of the record; False where the layer can't tell."""
        if self.watch is None:
            with contextlib.suppress(Exception):  # it is no more than a help: the next look asks the store itself
                self.watch = self._store._watch_record(op.idempotency_key)
        if self.watch is None:
            return False
        try:
            self.watch.wait(op.seconds, at_most)
        except (IdempotencyBaseError, OSError) as error:
            # Anything else is for the caller, as what ends a sleep is: a signal handler may raise a task's time limit.
            if isinstance(error, TimeoutError):
                raise
            self.unwatch()
            return False
        return True


class AsyncPorts:
    """Each wish of the protocol, as one awaited call of an asynchronous layer; failures become answers.

    Attributes:
        interrupted: Whether the task was cancelled. What is written from then on runs in a task of its own, since
            some schedulers cancel at every await, and the record must not stay half-way.
        watch: What the layer gave a call that waits; whoever drives the call ends it with `unwatch`.
    """

    __slots__ = ("_store", "interrupted", "watch")

    def __init__(self, store: AsyncBasePersistenceLayer) -> None:
        self._store = store
        self.interrupted = False
        self.watch: AsyncWatch | None = None

    async def claim(self, op: Claim, *, again: bool = False) -> DataRecord | StoreFailed | None:
        """See `wishes.Claim`."""
        try:
            await self._store._put_record(op.record)
        except IdempotencyItemAlreadyExistsError as error:
            found: DataRecord | StoreFailed | None = error.old_data_record
        except BaseException as error:  # noqa: BLE001  # becomes an answer
            self._note(error)
            return StoreFailed(error)  # see `SyncPorts.claim`
        else:
            return None
        if found is None:
            found = await self.fetch(Fetch(op.record.idempotency_key))
        if found is None:
            return _unreadable_rival() if again else await self.claim(op, again=True)
        return found

    async def fetch(self, op: Fetch) -> DataRecord | StoreFailed | None:
        """See `wishes.Fetch`."""
        try:
            return await self._store._get_record(op.idempotency_key)
        except BaseException as error:  # noqa: BLE001  # becomes an answer
            self._note(error)
            return fetch_refused(error)

    async def complete(self, op: Complete) -> StoreFailed | Lost | Unstorable | None:
        """See `wishes.Complete`."""
        try:
            await self._write(self._store._update_record, op.record)
        except BaseException as error:  # noqa: BLE001  # becomes an answer
            self._note(error)
            return complete_refused(error)
        return None

    async def release(self, op: Release) -> StoreFailed | None:
        """See `wishes.Release`."""
        try:
            await self._write(self._store._delete_record, op.record)
        except BaseException as error:  # noqa: BLE001  # becomes an answer
            self._note(error)
            return StoreFailed(error)
        return None

    async def pause(self, op: Pause) -> float | StoreFailed:
        """See `wishes.Pause`."""
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; `import retrysafe` stays light

        try:
            if op.at_most is None or not await self._watched(op, op.at_most):
                await asyncio.sleep(op.seconds)
        except BaseException as error:  # noqa: BLE001  # becomes an answer
            self._note(error)
            return StoreFailed(error)
        return monotonic()

    def unwatch(self) -> None:
        """See `SyncPorts.unwatch`."""
        watch, self.watch = self.watch, None
        if watch is not None:
            with contextlib.suppress(Exception):  # the call has its ending, whatever a watch says to that
                watch.close()

    async def _watched(self, op: Pause, at_most: float) -> bool:
        try:
            if self.watch is None:
                self.watch = self._store._watch_record(op.idempotency_key)
            if self.watch is None:
                return False
            await self.watch.wait(op.seconds, at_most)
        except Exception:  # noqa: BLE001  # it is no more than a help: the next look asks the store itself
            self.unwatch()
            return False
        return True

    def _note(self, error: BaseException) -> None:
        if isinstance(error, GeneratorExit):
            raise error  # the coroutine is being closed and may not await anything more
        if not isinstance(error, Exception):
            self.interrupted = True

    async def _write(self, method: Callable[[DataRecord], Awaitable[None]], record: DataRecord) -> None:
        if not self.interrupted:
            await method(record)
            return
        import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; `import retrysafe` stays light

        work = asyncio.ensure_future(method(record))
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((work,))
        work.result()


SYNC_PORTS: Final[dict[type[Op[Any]], Callable[[SyncPorts, Any], Any]]] = {
    Claim: SyncPorts.claim,
    Fetch: SyncPorts.fetch,
    Complete: SyncPorts.complete,
    Release: SyncPorts.release,
    Pause: SyncPorts.pause,
}
"""What carries out a wish of each kind, for a synchronous call."""

ASYNC_PORTS: Final[dict[type[Op[Any]], Callable[[AsyncPorts, Any], Awaitable[Any]]]] = {
    Claim: AsyncPorts.claim,
    Fetch: AsyncPorts.fetch,
    Complete: AsyncPorts.complete,
    Release: AsyncPorts.release,
    Pause: AsyncPorts.pause,
}
"""The same for an asynchronous one."""
