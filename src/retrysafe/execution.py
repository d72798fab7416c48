"""The run under way: what a function can learn about its own idempotency while it runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from retrysafe.exceptions import IdempotencyConfigError, IdempotencyItemNotFoundError
from retrysafe.nesting import Run, alive, current
from retrysafe.persistence.base import BasePersistenceLayer

if TYPE_CHECKING:
    import asyncio
    import datetime as dt

    from retrysafe.call import Call
    from retrysafe.persistence.base import AsyncBasePersistenceLayer
    from retrysafe.persistence.datarecord import DataRecord


class Forks:
    """How many forks lie between the first process and this one.

    By this a run tells whether it goes on in the process where it began: cheaper than to ask for the process's id.
    """

    __slots__ = ("times",)

    def __init__(self) -> None:
        self.times = 0

    def one_more(self) -> None:
        """This process was forked off."""
        self.times += 1


forks = Forks()
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=forks.one_more)


class Execution(Run):
    """One run of an idempotent function, as `current_execution()` gives it. Its driver fills it in.

    Attributes:
        call: The call that runs.
        claim: The record that claims its key.
        lease_end_ms: End of the lease as last renewed, in milliseconds since the epoch.
        store: Where the record is kept.
        renewal_due: When a heartbeat renews the run next, in seconds: on the monotonic clock, or on its event loop's.
        late_at: When its event loop counts as blocked if it has not renewed it, on the monotonic clock, in seconds; set
            where something else can renew it then.
        lease_lost: Whether a heartbeat already found that the key passed to another call.
        began_after: How many forks there had been when it began.
        loop: The event loop that it runs in, set where the heartbeat's thread renews for it.
    """

    __slots__ = (
        "__weakref__",
        "began_after",
        "call",
        "claim",
        "late_at",
        "lease_end_ms",
        "lease_lost",
        "loop",
        "renewal_due",
        "store",
    )

    call: Call
    claim: DataRecord
    store: BasePersistenceLayer | AsyncBasePersistenceLayer
    late_at: float
    lease_end_ms: int
    lease_lost: bool
    began_after: int
    loop: asyncio.AbstractEventLoop
    renewal_due: float

    @property
    def idempotency_key(self) -> str:
        """The key, `{prefix}#{hash}`."""
        return self.call.idempotency_key

    @property
    def attempt(self) -> int:
        """1, and one more for each takeover: for each run before this one that died and held the key until then.

        A run that raised freed the key, and counts for nothing. Nor does one whose window is over too, counted from its
        claim or last renewal: its record is gone by then.
        """
        return self.claim.attempt

    @property
    def owner(self) -> str:
        """The owner token of this run."""
        return self.claim.owner or ""

    @property
    def lease_expires_at(self) -> dt.datetime:
        """End of the lease as last renewed, aware, UTC."""
        import datetime as dt  # noqa: PLC0415  # rarely asked for

        return dt.datetime.fromtimestamp(self.lease_end_ms / 1000, tz=dt.UTC)

    def key_for(self, name: str) -> str:
        """A key for a call that this run makes downstream, the same in every attempt and every duplicate.

        Args:
            name: What distinguishes the calls of one run, for instance "charge".

        Returns:
            64 hexadecimal digits, derived from the idempotency key and the name.

        Raises:
            IdempotencyConfigError: The name is no string. What an object of another type is shown as need not be the
                same in the next attempt.
        """
        given: object = name
        if not isinstance(given, str):
            raise IdempotencyConfigError(f"key_for() takes a name, a string; it was given a {type(given).__name__}")
        import hashlib  # noqa: PLC0415  # rarely asked for

        own = self.idempotency_key
        return hashlib.sha256(f"{len(own)}:{own}:{name}".encode("utf-8", "surrogatepass")).hexdigest()

    def still_owner(self) -> bool:
        """Ask the store whether the key is still this run's; one round trip.

        Raises:
            IdempotencyConfigError: The function is asynchronous, whatever the layer: use `still_owner_async()`.
            IdempotencyPersistenceLayerError: The store failed, and it is not known; from a layer of one's own, whatever
                that raises.
        """
        if not isinstance(self.store, BasePersistenceLayer):
            raise IdempotencyConfigError("still_owner() needs a sync layer; use `await still_owner_async()`")
        try:
            return self._owns(self.store._get_record(self.idempotency_key))
        except IdempotencyItemNotFoundError:
            return False

    async def still_owner_async(self) -> bool:
        """`still_owner()` for asynchronous functions, on a layer of either kind; a store that fails raises likewise."""
        if isinstance(self.store, BasePersistenceLayer):
            from retrysafe.persistence.threads import ThreadedPersistenceLayer  # noqa: PLC0415  # imports asyncio

            store: AsyncBasePersistenceLayer = ThreadedPersistenceLayer(self.store)
        else:
            store = self.store
        try:
            return self._owns(await store._get_record(self.idempotency_key))
        except IdempotencyItemNotFoundError:
            return False

    def holds_up(self, owner: str | None) -> bool:
        """See `Run.holds_up`."""
        return self.claim.owner == owner

    def is_copy(self) -> bool:
        """Whether this process was forked off while it ran: the run goes on in the parent, whose key it is."""
        return self.began_after != forks.times

    def is_deserted(self) -> bool:
        """Whether nobody is left who would end it, so that a heartbeat is to let it go."""
        return hasattr(self, "loop") and self.loop.is_closed()

    def _owns(self, record: DataRecord) -> bool:
        if record.owner is None:  # a layer without owners, nor attempts
            return record.in_progress_expiry_timestamp == self.lease_end_ms
        return record.owner == self.owner


def current_execution() -> Execution:
    """The run of the innermost idempotent function under way in this thread or task.

    A call that runs unprotected, switched off or with a payload that has no key, is no such run: it gets the run around
    it, if there is one.

    Raises:
        IdempotencyConfigError: None is.
    """
    execution = alive(current.get())  # one that is over was left behind in a context that outlived it
    if not isinstance(execution, Execution):
        raise IdempotencyConfigError(
            "current_execution() was called outside of an idempotent function, or in one that runs unprotected: "
            "switched off, or with a payload that has no key"
        )
    return execution
