"""The record on the wire: its attributes, by name and in order, as every store that peers share keeps them.

`to_attributes` and `from_attributes` are the only place that knows the names and forms; docs/record-format.md is the
page about them. What a peer wrote is read in either of the peers' forms; what we write is the Python peer's form, with
our own attributes (`owner`, `attempt`, `types`) behind it, which peers ignore.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, Any

from retrysafe.exceptions import IdempotencyPersistenceConsistencyError
from retrysafe.persistence.datarecord import INPROGRESS, STORED_STATUSES, DataRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

OWNER, ATTEMPT, TYPES = "owner", "attempt", "types"


class AttributeNames:
    """What the attributes are called that a layer's constructor lets the user rename.

    Args:
        expiry: The end of the window. Default: `"expiration"`.
        in_progress_expiry: The end of the lease. Default: `"in_progress_expiration"`.
        status: The status. Default: `"status"`.
        data: The answer. Default: `"data"`.
        validation: The hash of the validated part of the payload. Default: `"validation"`.
    """

    __slots__ = ("data", "expiry", "in_progress_expiry", "status", "validation")

    def __init__(
        self,
        expiry: str = "expiration",
        in_progress_expiry: str = "in_progress_expiration",
        status: str = "status",
        data: str = "data",
        validation: str = "validation",
    ) -> None:
        self.expiry = expiry
        self.in_progress_expiry = in_progress_expiry
        self.status = status
        self.data = data
        self.validation = validation


DEFAULT_NAMES = AttributeNames()


def to_attributes(record: DataRecord, names: AttributeNames = DEFAULT_NAMES) -> dict[str, Any]:
    """The attributes of a record, without its key, in the order in which the Python peer writes them."""
    attributes: dict[str, Any] = {}
    if record.stored_status != INPROGRESS:
        attributes[names.data] = record.response_data
    attributes[names.status] = record.stored_status
    attributes[names.expiry] = record.expiry_timestamp
    if record.in_progress_expiry_timestamp is not None:
        attributes[names.in_progress_expiry] = record.in_progress_expiry_timestamp
    if record.payload_hash:
        attributes[names.validation] = record.payload_hash
    if record.types:
        attributes[TYPES] = record.types
    if record.owner is not None:
        attributes[OWNER] = record.owner
        attributes[ATTEMPT] = record.attempt
    return attributes


def from_attributes(
    idempotency_key: str,
    attributes: Mapping[str, Any],
    names: AttributeNames = DEFAULT_NAMES,
) -> DataRecord:
    """The record that these attributes are.

    Raises:
        IdempotencyPersistenceConsistencyError: They are none; names the attribute, never its value.
    """
    status = attributes.get(names.status)
    if not isinstance(status, str) or not status:
        raise _unreadable(idempotency_key, names.status)
    owner = attributes.get(OWNER)
    data = attributes.get(names.data)
    return DataRecord(
        idempotency_key,
        status,
        _number(idempotency_key, attributes, names.expiry),
        _number(idempotency_key, attributes, names.in_progress_expiry),
        # Ours, in the one form that we write, is taken as it is.
        data if owner is not None and type(data) is str else _answer(idempotency_key, attributes, names.data),
        _text(idempotency_key, attributes, names.validation) or "",
        None,  # a sort key is the layer's own affair
        owner if type(owner) is str else _text(idempotency_key, attributes, OWNER),
        _number(idempotency_key, attributes, ATTEMPT) or 1,
        _text(idempotency_key, attributes, TYPES) or "",
    )


class JsonText:
    """The same as one JSON text, to the letter `json.dumps(to_attributes(record, names))`, with gaps for the times.

    For a store that writes the times by its own clock. It also takes half as long.

    Args:
        names: What the attributes are called.
    """

    __slots__ = ("_data", "_lease", "_status", "_statuses", "_validation", "_window")

    def __init__(self, names: AttributeNames) -> None:
        self._data = f"{{{quoted(names.data)}: "
        self._status, self._window = quoted(names.status), quoted(names.expiry)
        self._statuses = {status: self._up_to_window(status) for status in STORED_STATUSES}
        self._lease = f", {quoted(names.in_progress_expiry)}: "
        self._validation = f", {quoted(names.validation)}: "

    def _up_to_window(self, status: str) -> str:
        return f"{self._status}: {quoted(status)}, {self._window}: "

    def parts(self, record: DataRecord) -> tuple[str, str, str]:
        """What stands before the window's end, between it and the lease's end (if there is one), and behind these."""
        status = self._statuses.get(record.stored_status) or self._up_to_window(record.stored_status)
        start = "{" if record.stored_status == INPROGRESS else f"{self._data}{quoted(record.response_data)}, "
        end = f"{self._validation}{quoted(record.payload_hash)}" if record.payload_hash else ""
        if record.types:
            end += f', "{TYPES}": {quoted(record.types)}'
        if record.owner is not None:
            end += f', "{OWNER}": {quoted(record.owner)}, "{ATTEMPT}": {record.attempt}'
        between = "" if record.in_progress_expiry_timestamp is None else self._lease
        return start + status, between, end + "}"


def _answer(key: str, attributes: Mapping[str, Any], name: str) -> str:
    """The answer as JSON text. We and the Python peer store that text; the TypeScript peer stores the value itself.

    Text that both peers could have written is taken for the Python peer's: `5` is a number, though a TypeScript worker
    that returned the text "5" writes the same.
    """
    data = attributes.get(name)
    if data is None:
        return ""
    if isinstance(data, str):
        try:
            json.loads(data)
        except json.JSONDecodeError:
            return json.dumps(data)
        except (ValueError, RecursionError):
            pass  # JSON with a number too long, or too deep: refused where the answer is needed
        return data
    try:
        return json.dumps(data, sort_keys=True, default=_json_number)
    except (TypeError, ValueError, RecursionError):
        raise _unreadable(key, name) from None


def _json_number(value: Any) -> int | float:
    """The number that a Decimal is, in which a store that has no floats keeps those of a TypeScript worker."""
    if type(value).__name__ != "Decimal":  # not imported for this
        raise TypeError
    whole = int(value)
    return whole if whole == value else float(value)


def _number(key: str, attributes: Mapping[str, Any], name: str) -> int | None:
    value = attributes.get(name)
    if value is None or type(value) is int:
        return value
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise _unreadable(key, name) from None


def _text(key: str, attributes: Mapping[str, Any], name: str) -> str | None:
    value = attributes.get(name)
    if value is None or isinstance(value, str):
        return value
    raise _unreadable(key, name)


def _unreadable(key: str, name: str) -> IdempotencyPersistenceConsistencyError:
    return IdempotencyPersistenceConsistencyError(
        f"the record {key} cannot be read: its attribute {name!r} is missing or of the wrong kind; it is left as it is"
    )
