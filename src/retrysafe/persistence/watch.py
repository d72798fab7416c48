"""What a layer may offer to calls that wait: a watch on one record, so that they are told instead of asking.

A layer that can be told of changes gives one from `_watch_record`. It need not tell of everything: the caller looks
again after a while in any case, and nothing is ever decided on what a watch says or doesn't say.
"""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    """One waiting call's eye on one record, in a synchronous layer.

    No change may be missed between looks. So a watch

    - remembers a change that comes while nobody waits, and then ends the next wait at once;
    - forgets it when a wait ends, before its caller looks: what changes during the look ends the wait after it;
    - wakes once when it begins to be told, since what changed before that was told to nobody. One that is told from the
      moment it is opened begins like that;
    - wakes when it is no longer told, so that a wait that counted on that does not go on.
    """

    def wait(self, seconds: float, at_most: float) -> None:
        """Wait until the record may have changed.

        Args:
            seconds: How long to wait at most, in seconds, while the watch is not told of changes.
            at_most: The same while it is; not less than `seconds`.

        Raises:
            IdempotencyBaseError, OSError: It is told no longer; its caller looks now and then instead. Anything else,
                and a TimeoutError, ends the call, as it may be raised by a signal handler.
        """
        ...

    def close(self) -> None:
        """Stop watching, at once and without I/O. It may be called twice."""
        ...


class AsyncWatch(Protocol):
    """`Watch` in an asynchronous layer: the same promises. Whatever `wait` raises means that it is told no longer."""

    async def wait(self, seconds: float, at_most: float) -> None:
        """See `Watch.wait`."""
        ...

    def close(self) -> None:
        """See `Watch.close`. Not a coroutine, since a call that is torn down can await nothing."""
        ...
