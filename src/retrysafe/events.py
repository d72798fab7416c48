"""What happened, as typed objects: one event per outcome, for the log and for a hook of the user's.

Events hold the idempotency key (a hash), never a payload or an answer.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

    from retrysafe.persistence.datarecord import DataRecord

DEBUG, WARNING = 10, 30  # as in logging, which is loaded only when there is something to log


class IdempotencyEvent:
    """The base of all events. Its fields are read-only.

    Attributes:
        name: What happened, as the log says it.
        level: The level at which the log has it.
        idempotency_key: The key, `{prefix}#{hash}`.
        function_name: The name that errors and logs use for the function.
        owner: The owner token of the record that the event is about; None for a peer's record.
        attempt: 1, one more at each takeover.
    """

    name: ClassVar[str] = "event"
    level: ClassVar[int] = DEBUG

    idempotency_key: str
    function_name: str
    owner: str | None
    attempt: int

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an event is read-only: {name}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.fields() == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # a value to look at, not to look up

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"

    def fields(self) -> dict[str, Any]:
        """The fields by name."""
        return dict(self.__dict__)


class Claimed(IdempotencyEvent):
    """The key is this call's; the function is about to run."""

    name: ClassVar[str] = "claimed"


class TakenOver(IdempotencyEvent):
    """The key was held by a run whose lease ended without an answer; it is now this call's.

    Attributes:
        previous_owner: The owner token of that run; None where a peer wrote it.
    """

    name: ClassVar[str] = "taken over"
    level: ClassVar[int] = WARNING

    previous_owner: str | None


class Replayed(IdempotencyEvent):
    """A duplicate got the stored answer, or the stored failure.

    Attributes:
        from_local_cache: Whether no store was asked.
    """

    name: ClassVar[str] = "replayed"

    from_local_cache: bool


class Waited(IdempotencyEvent):
    """A duplicate waited for the call that holds the key.

    Attributes:
        waited_seconds: For how long.
        answered: Whether it then got the answer; False where its wait limit came first.
    """

    name: ClassVar[str] = "waited"

    waited_seconds: float
    answered: bool


def level_of(kind: type[IdempotencyEvent], details: Mapping[str, Any]) -> int:
    """The level of an event with these fields of its own, before it is made."""
    is_grave = bool(details.get("plain_classes")) or not details.get("stored", True)
    return WARNING if is_grave else kind.level


class _LevelByFields:
    """The level of an event by its own fields; for the class, debug."""

    def __get__(self, event: Completed | Released | None, kind: type[IdempotencyEvent]) -> int:
        return DEBUG if event is None else level_of(kind, event.fields())


class Completed(IdempotencyEvent):
    """The run ended and its outcome is stored.

    Attributes:
        status: `COMPLETED`, or `FAILED` for a stored failure.
        plain_classes: Classes in the answer that duplicates will get as plain dicts or values, since neither the
            return annotation nor a serializer names them; the log has the event as a warning then.
    """

    name: ClassVar[str] = "completed"
    level: ClassVar[int] = _LevelByFields()  # type: ignore[assignment]  # gives an int

    status: str
    plain_classes: tuple[str, ...]


class Released(IdempotencyEvent):
    """The run failed; the key is free again.

    Attributes:
        error: The name of the exception's class.
        stored: Whether the store confirmed it; if not, the key is free when the lease ends, and the log has the event
            as a warning.
    """

    name: ClassVar[str] = "released"
    level: ClassVar[int] = _LevelByFields()  # type: ignore[assignment]  # gives an int

    error: str
    stored: bool


class LeaseLost(IdempotencyEvent):
    """The key passed to another call, or somebody removed the record, before this one could complete."""

    name: ClassVar[str] = "lease lost"
    level: ClassVar[int] = WARNING


class AnswerUnavailable(IdempotencyEvent):
    """The run completed, but its answer cannot be stored: duplicates will be refused, not run.

    Attributes:
        reason: Why, naming place and type in the answer, never a value.
    """

    name: ClassVar[str] = "answer unavailable"
    level: ClassVar[int] = WARNING

    reason: str


class Listener:
    """Hands events to the log and to the user's hook, and costs next to nothing while nobody listens."""

    __slots__ = ("_function_name", "_hook")

    def __init__(self, function_name: str, hook: Callable[[IdempotencyEvent], object] | None) -> None:
        self._function_name = function_name
        self._hook = hook

    def hears(self, level: int = DEBUG) -> bool:
        """Whether anybody listens to events of this level, so that it is worth building one."""
        if self._hook is not None:
            return True
        return logs(level) if _logger is None else _logger.isEnabledFor(level)

    def tell(self, kind: type[IdempotencyEvent], record: DataRecord, level: int, **details: Any) -> None:
        """Build the event, and hand it on."""
        event = kind(
            idempotency_key=record.idempotency_key,
            function_name=self._function_name,
            owner=record.owner,
            attempt=record.attempt,
            **details,
        )
        # A listener must not change what happens to the call: neither the hook, nor a filter or a handler of the log.
        with contextlib.suppress(Exception):
            if logs(level):
                log(event, level)
        if self._hook is not None:
            handled = sys.exc_info()[1]
            try:
                self._hook(event)
            except Exception as error:  # noqa: BLE001  # see above
                with contextlib.suppress(Exception):
                    _part(error, handled)
                    logger().exception("event_hook failed on the event %r", event.name)


def _part(error: BaseException, handled: BaseException | None) -> None:
    """Take what was being handled when a hook was called off the errors that it raised, for the log.

    Python puts it behind them, and it is not the hook's: it may name places in the answer, or hold a payload.
    """
    links: list[BaseException | None] = [error]
    seen = {id(handled)}
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        if link.__context__ is handled:
            link.__context__ = None
        links += (link.__cause__, link.__context__)


_logger: logging.Logger | None = None


def logger() -> logging.Logger:
    """The logger `retrysafe`. The module is loaded when there is something to log, as it takes 10 ms."""
    global _logger  # noqa: PLW0603  # looked up once, since every call asks whether anybody listens
    if _logger is None:
        import logging  # noqa: PLC0415  # see above

        _logger = logging.getLogger("retrysafe")
    return _logger


def logs(level: int) -> bool:
    """Whether the log takes this level. Nobody has asked for less than a warning where `logging` isn't even loaded."""
    if _logger is None and level < WARNING and "logging" not in sys.modules:
        return False
    try:
        return logger().isEnabledFor(level)
    except Exception:  # noqa: BLE001  # it could not be loaded, and a call whose function has run must not end by that
        return False


def log(event: IdempotencyEvent, level: int) -> None:
    """Write one event to the log `retrysafe`, its fields in `extra["idempotency"]`."""
    fields = event.fields()
    fields.pop("reason", None)  # it tells a place in the answer by its dict keys, which are the answer's own
    shown = ", ".join(f"{name}={value}" for name, value in fields.items() if name != "idempotency_key")
    extra = {"idempotency": {"event": event.name, **fields}}
    logger().log(level, "%s: %s (%s)", event.name, event.idempotency_key, shown, extra=extra)
