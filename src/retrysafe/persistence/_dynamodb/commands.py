"""Records as requests to DynamoDB: pure functions, shared by the synchronous and the asynchronous layer.

Each method of the contract is one conditional request on one item, which returns the item that stands where the
condition fails. DynamoDB has no clock in conditions, so the time that judges is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from retrysafe.persistence.wire import ATTEMPT, OWNER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retrysafe.persistence._dynamodb.items import Item, Items
    from retrysafe.persistence.datarecord import DataRecord

REFUSED: Final = "ConditionalCheckFailedException"
TOO_LARGE: Final = "retrysafe.ItemTooLarge"
"""Error codes that steps expect; the second one is ours, for a ValidationException that says so."""

_NOT_HELD: Final = frozenset({REFUSED})
_NOT_TAKEN: Final = frozenset({REFUSED, TOO_LARGE})

_FREE: Final = "attribute_not_exists(#id) OR (#expiry < :now AND #status = :completed)"
_COMPLETED: Final = {"S": COMPLETED}
_INPROGRESS: Final = {"S": INPROGRESS}
_RUNNING: Final = "#owner = :owner AND #status = :status"
_NOBODY: Final[dict[str, Any]] = {"BOOL": False}
"""What no record's owner equals."""


class Command:
    """One request.

    Args:
        operation: Its name, as DynamoDB has it.
        parameters: What it is told.
        expected: Error codes that are answers here.
    """

    __slots__ = ("expected", "operation", "parameters")

    def __init__(self, operation: str, parameters: dict[str, Any], expected: frozenset[str] = frozenset()) -> None:
        self.operation = operation
        self.parameters = parameters
        self.expected = expected


class Commands:
    """Makes requests of records.

    Args:
        table_name: The table.
        items: What its items look like.
    """

    __slots__ = ("_free_names", "_items", "_key_name", "_marks", "_own_names", "_renewal_names", "_table")

    def __init__(self, table_name: str, items: Items) -> None:
        names = items.names
        self._table = table_name
        self._items = items
        self._key_name = {"#id": items.key_attr}
        self._free_names = self._key_name | {"#expiry": names.expiry, "#status": names.status}
        # What tells one record from another.
        self._marks = {
            "status": names.status,
            "owner": OWNER,
            "attempt": ATTEMPT,
            "lease": names.in_progress_expiry,
            "expiry": names.expiry,
        }
        self._own_names = {"#owner": OWNER, "#status": names.status}
        self._renewal_names = self._own_names | {"#expiry": names.expiry, "#lease": names.in_progress_expiry}

    def claim(
        self, record: DataRecord, now_ms: int, *, guarded: bool, seen: Mapping[str, Any] | None = None
    ) -> Command:
        """Store the claim if nothing live stands, or exactly the record that it names.

        Of what is over only an answer is told by the condition itself: that is what nearly always stands there, and
        each further name and value would cost every call of every key. The rest is seen in the refusal, and named then.

        Args:
            record: The claim.
            now_ms: The time that judges.
            guarded: Whether that time is doubtful: then nothing counts as over by it.
            seen: An item that a refusal showed and that is over: the claim also wins if exactly that still stands.
        """
        free, names, values = "attribute_not_exists(#id)", self._key_name, None
        if seen is not None:
            exactly, names, values = self._same_item(seen)
            free = f"{free} OR {exactly}"
        elif not guarded:
            free, names = _FREE, self._free_names
            values = {":now": {"N": str(now_ms // 1000)}, ":completed": _COMPLETED}
        if record.replaces is not None:
            exactly, more_names, more_values = self._same_claim(record.replaces)
            free, names, values = f"{free} OR {exactly}", names | more_names, (values or {}) | more_values
        parameters: dict[str, Any] = {
            "TableName": self._table,
            "Item": self._items.item(record),
            "ConditionExpression": free,
            "ExpressionAttributeNames": names,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if values is not None:
            parameters["ExpressionAttributeValues"] = values
        return Command("PutItem", parameters, _NOT_HELD)

    def _same_item(self, seen: Mapping[str, Any]) -> tuple[str, dict[str, str], Item]:
        """Nothing of what tells one record from another has changed in the item."""
        names = dict(self._key_name)
        values: Item = {}
        conditions: list[str] = []
        for mark, name in self._marks.items():
            names[f"#seen_{mark}"] = name
            value = seen.get(name)
            if value is None:
                conditions.append(f"attribute_not_exists(#seen_{mark})")
            else:
                values[f":seen_{mark}"] = value
                conditions.append(f"#seen_{mark} = :seen_{mark}")
        return f"({' AND '.join(conditions)})", names, values

    def _same_claim(self, named: DataRecord) -> tuple[str, dict[str, str], Item]:
        """What `DataRecord.same_claim` says: status, owner, attempt and lease are those of the record named."""
        names: dict[str, str] = {}
        values: Item = {}
        conditions: list[str] = []
        for mark, value in (
            ("status", {"S": named.stored_status}),
            ("owner", None if named.owner is None else {"S": named.owner}),
            ("attempt", {"N": str(named.attempt)}),
            ("lease", _number(named.in_progress_expiry_timestamp)),
        ):
            names[f"#named_{mark}"] = self._marks[mark]
            condition = f"attribute_not_exists(#named_{mark})"
            if value is not None:
                values[f":named_{mark}"] = value
                # An item without `attempt` is read as the first.
                or_none = f" OR {condition}" if mark == "attempt" and named.attempt == 1 else ""
                condition = f"(#named_{mark} = :named_{mark}{or_none})"
            conditions.append(condition)
        return f"({' AND '.join(conditions)})", names, values

    def complete(self, record: DataRecord, *, packed: bool, again: bool = False) -> Command:
        """Store the outcome in the claim's place, if the owner is still the same and has not finished.

        The owner alone does not tell: a late Powertools worker completes by UpdateItem, and leaves it in the item.

        Args:
            record: The outcome.
            packed: Whether its answer is to be compressed.
            again: Whether the outcome stands already, and its time is to be put right.

        Raises:
            IdempotencyResponseUnavailableError: It is packed, and too large even so.
        """
        item = self._items.packed(record) if packed else self._items.item(record)
        status = item[self._items.names.status] if again else _INPROGRESS
        return Command(
            "PutItem",
            {
                "TableName": self._table,
                "Item": item,
                "ConditionExpression": _RUNNING,
                "ExpressionAttributeNames": self._own_names,
                "ExpressionAttributeValues": {":owner": _owner(record), ":status": status},
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            },
            _NOT_TAKEN,
        )

    def renew(self, record: DataRecord) -> Command:
        """Move window and lease on, if the owner is still the same and has not finished."""
        values: dict[str, Any] = {":owner": _owner(record), ":status": _INPROGRESS}
        update: list[str] = []
        for place, value in (("expiry", record.expiry_timestamp), ("lease", record.in_progress_expiry_timestamp)):
            if value is not None:
                values[f":{place}"] = {"N": str(value)}
                update.append(f"#{place} = :{place}")
        return Command(
            "UpdateItem",
            {
                "TableName": self._table,
                "Key": self._items.key(record.idempotency_key),
                "UpdateExpression": f"SET {', '.join(update)}",
                "ConditionExpression": _RUNNING,
                "ExpressionAttributeNames": self._renewal_names,
                "ExpressionAttributeValues": values,
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            },
            _NOT_HELD,
        )

    def release(self, record: DataRecord) -> Command:
        """Remove the claim, if the owner is still the same and has not finished."""
        return Command(
            "DeleteItem",
            {
                "TableName": self._table,
                "Key": self._items.key(record.idempotency_key),
                "ConditionExpression": _RUNNING,
                "ExpressionAttributeNames": self._own_names,
                "ExpressionAttributeValues": {":owner": _owner(record), ":status": _INPROGRESS},
            },
            _NOT_HELD,
        )

    def read(self, idempotency_key: str) -> Command:
        """Look what stands, in the copy that has every write."""
        key = self._items.key(idempotency_key)
        return Command("GetItem", {"TableName": self._table, "Key": key, "ConsistentRead": True})


def _owner(record: DataRecord) -> dict[str, Any]:
    return _NOBODY if record.owner is None else {"S": record.owner}


def _number(value: int | None) -> dict[str, str] | None:
    return None if value is None else {"N": str(value)}
