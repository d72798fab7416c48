"""What the protocol wishes for, and what it is answered: plain values, the vocabulary between it and its drivers."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from retrysafe.call import Call
    from retrysafe.persistence.datarecord import DataRecord

T = TypeVar("T")
Flow: TypeAlias = Generator["Op[Any]", Any, T]


# --- answers -----------------------------------------------------------------------------------------------------


class Value:
    """A small value: equal where its fields are. Plain classes, since making dataclasses doubles the import time."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((type(self), *map(id, self._fields())))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({shown})"

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)


class Returned(Value):
    """The function returned, or a stored answer stands for that.

    Args:
        value: The answer.
        lease_end_ms: Where the function ran: the end of its lease as renewed meanwhile.
    """

    __slots__ = ("lease_end_ms", "value")

    def __init__(self, value: Any, lease_end_ms: int = 0) -> None:
        self.value = value
        self.lease_end_ms = lease_end_ms


class Raised(Value):
    """The function raised, or the call ends with an error.

    Args:
        error: What the caller gets.
        lease_end_ms: Where the function ran: the end of its lease as renewed meanwhile.
        suspended: The run is not over but continues in a later invocation; its claim stays.
    """

    __slots__ = ("error", "lease_end_ms", "suspended")

    def __init__(self, error: BaseException, lease_end_ms: int = 0, *, suspended: bool = False) -> None:
        self.error = error
        self.lease_end_ms = lease_end_ms
        self.suspended = suspended

    def taken(self) -> BaseException:
        """The error, to be raised. It is no longer here then: its traceback holds the frames that hold this ending."""
        error = self.error
        del self.error
        return error


Ending: TypeAlias = Returned | Raised


class StoreFailed(Value):
    """The store did not answer; whether it did as it was told is unknown.

    Args:
        error: What it raised; a KeyboardInterrupt or CancelledError where it was interrupted.
    """

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Lost(Value):
    """The write was refused: the record is no longer this call's.

    Args:
        record: The record that stands now, where the store told.
    """

    __slots__ = ("record",)

    def __init__(self, record: DataRecord | None = None) -> None:
        self.record = record


class Unstorable(Value):
    """The store can never take this answer.

    Args:
        error: Why.
    """

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


# --- wishes ------------------------------------------------------------------------------------------------------


class Op(Value, Generic[T]):
    """A wish for I/O. `answer = yield from SomeOp(...)` has the type of its answer."""

    __slots__ = ()

    def __iter__(self) -> Flow[T]:
        answer: T = yield self
        return answer


class Claim(Op["DataRecord | StoreFailed | None"]):
    """Store the claim if no live record stands. Answer: None, or the record that stands."""

    __slots__ = ("record",)

    def __init__(self, record: DataRecord) -> None:
        self.record = record


class Fetch(Op["DataRecord | StoreFailed | None"]):
    """Read the record under the key. Answer: the record, or None."""

    __slots__ = ("idempotency_key",)

    def __init__(self, idempotency_key: str) -> None:
        self.idempotency_key = idempotency_key


NOTHING: Any = object()


class Invoke(Op[Ending]):
    """Run the function, once, with a heartbeat where the call has one.

    Attributes:
        came: What the function returned, noted at once, so that an interruption right behind it finds that it has run;
            NOTHING before.
    """

    __slots__ = ("call", "came", "claim")

    def __init__(self, call: Call, claim: DataRecord) -> None:
        self.call = call
        self.claim = claim
        self.came = NOTHING


class Complete(Op["StoreFailed | Lost | Unstorable | None"]):
    """Store the outcome, if the record is still this owner's. Answer: None once it is stored."""

    __slots__ = ("record",)

    def __init__(self, record: DataRecord) -> None:
        self.record = record


class Release(Op["StoreFailed | None"]):
    """Remove the claim, if it is still this owner's."""

    __slots__ = ("record",)

    def __init__(self, record: DataRecord) -> None:
        self.record = record


class Pause(Op["float | StoreFailed"]):
    """Wait, and look again. Answer: the reading of a monotonic clock afterwards, in seconds.

    Args:
        seconds: How long, where nobody tells when the record changes.
        idempotency_key: The record's key.
        at_most: How long, where the layer is sure to tell; the pause then ends when it does. None: the pause does not
            wait for the record, and is not cut short.
        owed: The outcome that is still to be stored after it, where there is one.
    """

    __slots__ = ("at_most", "idempotency_key", "owed", "seconds")

    def __init__(
        self, seconds: float, idempotency_key: str, at_most: float | None = None, owed: DataRecord | None = None
    ) -> None:
        self.seconds = seconds
        self.idempotency_key = idempotency_key
        self.at_most = at_most
        self.owed = owed
