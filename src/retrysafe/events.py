"""What happened, as typed objects: one event per outcome, for the log and for a hook of the user's.

Events hold the idempotency key (a hash), never a payload or an answer.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.persistence.datarecord import DataRecord

logger = logging.getLogger("retrysafe")


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyEvent:
    """The base of all events.

    Attributes:
        idempotency_key: The key, `{prefix}#{hash}`.
        function_name: The name that errors and logs use for the function.
        owner: The owner token of the record that the event is about; None for a peer's record.
        attempt: 1, one more at each takeover.
    """

    name: ClassVar[str] = "event"
    level: ClassVar[int] = logging.DEBUG

    idempotency_key: str
    function_name: str
    owner: str | None
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed(IdempotencyEvent):
    """The key is this call's; the function is about to run."""

    name: ClassVar[str] = "claimed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver(IdempotencyEvent):
    """The key was held by a run whose lease ended without an answer; it is now this call's.

    Attributes:
        previous_owner: The owner token of that run; None where a peer wrote it.
    """

    name: ClassVar[str] = "taken over"
    level: ClassVar[int] = logging.WARNING

    previous_owner: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed(IdempotencyEvent):
    """A duplicate got the stored answer, or the stored failure.

    Attributes:
        from_local_cache: Whether no store was asked.
    """

    name: ClassVar[str] = "replayed"

    from_local_cache: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited(IdempotencyEvent):
    """A duplicate waited for the call that holds the key.

    Attributes:
        waited_seconds: For how long.
        answered: Whether it then got the answer; False where its wait limit came first.
    """

    name: ClassVar[str] = "waited"

    waited_seconds: float
    answered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(IdempotencyEvent):
    """The run ended and its outcome is stored.

    Attributes:
        status: `COMPLETED`, or `FAILED` for a stored failure.
        plain_classes: Classes in the answer that duplicates will get as plain dicts or values, since neither the
            return annotation nor a serializer names them.
    """

    name: ClassVar[str] = "completed"

    status: str
    plain_classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(IdempotencyEvent):
    """The run failed; the key is free again.

    Attributes:
        error: The name of the exception's class.
        stored: Whether the store confirmed it; if not, the key is free when the lease ends.
    """

    name: ClassVar[str] = "released"

    error: str
    stored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLost(IdempotencyEvent):
    """The key passed to another call before this one could complete."""

    name: ClassVar[str] = "lease lost"
    level: ClassVar[int] = logging.WARNING


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerUnavailable(IdempotencyEvent):
    """The run completed, but its answer cannot be stored: duplicates will be refused, not run.

    Attributes:
        reason: Why, naming place and type in the answer, never a value.
    """

    name: ClassVar[str] = "answer unavailable"
    level: ClassVar[int] = logging.WARNING

    reason: str


class Listener:
    """Hands events to the log and to the user's hook, and costs next to nothing while nobody listens."""

    __slots__ = ("_function_name", "_hook")

    def __init__(self, function_name: str, hook: Callable[[IdempotencyEvent], object] | None) -> None:
        self._function_name = function_name
        self._hook = hook

    def hears(self, level: int) -> bool:
        """Whether anybody listens to events of this level, so that it is worth building one."""
        return self._hook is not None or logger.isEnabledFor(level)

    def tell(self, kind: type[IdempotencyEvent], record: DataRecord, **details: Any) -> None:
        """Build the event, and hand it on."""
        event = kind(
            idempotency_key=record.idempotency_key,
            function_name=self._function_name,
            owner=record.owner,
            attempt=record.attempt,
            **details,
        )
        level = logging.WARNING if details.get("plain_classes") else kind.level
        if logger.isEnabledFor(level):
            log(event, level)
        if self._hook is not None:
            try:
                self._hook(event)
            except Exception:  # a listener must not change what happens to the call
                logger.exception("event_hook failed on the event %r", event.name)


def log(event: IdempotencyEvent, level: int) -> None:
    """Write one event to the log `retrysafe`, its fields in `extra["idempotency"]`."""
    details = {field.name: getattr(event, field.name) for field in fields(event)}
    shown = ", ".join(f"{name}={value}" for name, value in details.items() if name != "idempotency_key")
    logger.log(
        level,
        "%s: %s (%s)",
        event.name,
        event.idempotency_key,
        shown,
        extra={"idempotency": {"event": event.name, **details}},
    )
