"""Everything retrysafe raises, under one root.

    IdempotencyBaseError
    ├── IdempotencyConfigError (also a ValueError)     wrong use, refused when decorating or constructing
    │   └── IdempotencyPersistenceConfigError          wrong use of a persistence layer; also of the last kind below
    ├── IdempotencyModelTypeError                      the return annotation is no model of the serializer's kind
    ├── IdempotencyNoSerializationModelError           no return annotation to take a model from
    ├── IdempotencyKeyError                            no idempotency key, or a payload that cannot be hashed
    ├── IdempotencyValidationError                     the same key came with another payload
    ├── IdempotencyAlreadyInProgressError              another call holds the key and is running
    ├── IdempotencyAbandonedError                      an earlier run never ended, and on_abandoned="raise"
    ├── IdempotencyLeaseLostError                      the key passed to another call while this one ran
    ├── IdempotencyResponseUnavailableError            the run completed, but its answer could not be stored
    ├── IdempotencyInconsistentStateError              the store contradicts itself
    ├── IdempotencyInvalidStatusError                  a record with a status nobody knows
    ├── IdempotencyItemAlreadyExistsError              (layer to protocol) a live record stands
    ├── IdempotencyItemNotFoundError                   (layer to protocol) no record stands
    └── IdempotencyPersistenceLayerError               the store failed
        ├── IdempotencyPersistenceConnectionError      the store cannot be reached
        └── IdempotencyPersistenceConsistencyError     what stands in the store cannot be read

`str()` gives `message - (details)`. Errors carry what happened as attributes, so that nobody parses text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrysafe.persistence.datarecord import DataRecord


class IdempotencyBaseError(Exception):
    """Root of everything retrysafe raises.

    Args:
        *args: The message first; whatever follows is shown behind it in brackets as details.
    """

    @property
    def message(self) -> str:
        """What happened. A subclass may set it, and so the details."""
        told: str | None = self.__dict__.get("message")
        return (str(self.args[0]) if self.args else "") if told is None else told

    @message.setter
    def message(self, message: str) -> None:
        self.__dict__["message"] = message

    @property
    def details(self) -> str:
        """What is known beyond the message; "" where nothing is."""
        told: str | None = self.__dict__.get("details")
        return "".join(str(detail) for detail in self.args[1:]) if told is None else told

    @details.setter
    def details(self, details: str) -> None:
        self.__dict__["details"] = details

    def __str__(self) -> str:
        if self.message and self.details:
            return f"{self.message} - ({self.details})"
        return self.message


class IdempotencyConfigError(IdempotencyBaseError, ValueError):
    """An option or its use is wrong; names the option and the value. Raised before anything ran.

    But for a function that returns a coroutine or a generator: its work has not been done yet, and its key is free.
    """


class IdempotencyModelTypeError(IdempotencyBaseError):
    """The function's return annotation is not a model that the output serializer can handle."""


class IdempotencyNoSerializationModelError(IdempotencyBaseError):
    """The output serializer needs a model, and the function has no return annotation."""


class IdempotencyKeyError(IdempotencyBaseError):
    """The payload has no idempotency key, or holds something that cannot be hashed. Nothing ran."""


class _RecordError(IdempotencyBaseError):
    """An error about a record that stands in the store.

    Attributes:
        record: The record found, or None where none could be read.
        idempotency_key: The key it stands under, or None.
        owner: The owner token of that record, or None for a record that a peer wrote.
        retry_after: Seconds until asking again may end otherwise; None where waiting does not help.
    """

    def __init__(self, *args: object, record: DataRecord | None = None, retry_after: float | None = None) -> None:
        super().__init__(*args)
        self.record = record
        self.retry_after = retry_after

    @property
    def idempotency_key(self) -> str | None:
        """The idempotency key of the record found."""
        return None if self.record is None else self.record.idempotency_key

    @property
    def owner(self) -> str | None:
        """The owner token of the record found."""
        return None if self.record is None else self.record.owner


class IdempotencyAlreadyInProgressError(_RecordError):
    """Another call holds this key and its lease runs; `retry_after` says for how many seconds."""


class IdempotencyValidationError(_RecordError):
    """The key is known, but the part of the payload under validation differs from the first call's."""


class IdempotencyAbandonedError(_RecordError):
    """An earlier run ended without an answer, and `on_abandoned="raise"` leaves the decision to a person."""


class IdempotencyResponseUnavailableError(_RecordError):
    """An earlier run completed, but its answer could not be stored; the work is not run again.

    A persistence layer raises it from `_update_record` for an answer that its store cannot take.
    """


class IdempotencyInconsistentStateError(_RecordError):
    """The store shows something that no correct course of events leads to."""


class IdempotencyInvalidStatusError(IdempotencyBaseError):
    """A record has a status that this version does not know."""


class IdempotencyLeaseLostError(_RecordError):
    """The key passed to another call while this one ran. Nothing was overwritten.

    Attributes:
        response: What this call's function returned; None where it had not returned.
        record: The record that stands now, or None where none does.
    """

    def __init__(
        self,
        *args: object,
        record: DataRecord | None = None,
        retry_after: float | None = None,
        response: Any = None,
    ) -> None:
        super().__init__(*args, record=record, retry_after=retry_after)
        self.response = response


class IdempotencyPersistenceLayerError(IdempotencyBaseError):
    """The store failed.

    Attributes:
        has_run: Whether the function has run, and returned: True where the store failed only at completion, False at a
            claim, where nothing ran.
        response: What it returned; None where it has not run.
    """

    def __init__(self, *args: object, response: Any = None, has_run: bool = False) -> None:
        super().__init__(*args)
        self.response = response
        self.has_run = has_run


class IdempotencyPersistenceConfigError(IdempotencyConfigError, IdempotencyPersistenceLayerError):
    """A persistence layer was given an unusable option, or its store is not set up for it."""


class IdempotencyPersistenceConnectionError(IdempotencyPersistenceLayerError):
    """The store cannot be reached."""


class IdempotencyPersistenceConsistencyError(IdempotencyPersistenceLayerError):
    """What stands in the store under this key cannot be read. It is never overwritten, and nothing runs."""


class IdempotencyItemAlreadyExistsError(IdempotencyBaseError):
    """Raised by a persistence layer's `_put_record`: a live record stands under the key.

    Attributes:
        old_data_record: That record; None where the store does not tell (it is then fetched).
    """

    def __init__(self, *args: object, old_data_record: DataRecord | None = None) -> None:
        super().__init__(*args)
        self.old_data_record = old_data_record


class IdempotencyItemNotFoundError(IdempotencyBaseError):
    """Raised by a persistence layer's `_get_record`: no record stands under the key."""


BaseError = IdempotencyBaseError
"""The root under the name that it has in Powertools."""
