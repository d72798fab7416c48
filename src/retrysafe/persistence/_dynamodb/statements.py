"""Records as PartiQL statements, 25 of which go in one request, and what the replies to them mean: pure functions.

BatchExecuteStatement carries out up to 25 statements, each for itself: one that fails has an error of its own in the
reply, and says nothing about the others (docs.aws.amazon.com/amazondynamodb/latest/APIReference/
API_BatchExecuteStatement.html, and developerguide/ql-reference.multiplestatements.batching.html). INSERT stores an item
only where none stands under its key (developerguide/ql-reference.insert.html), and UPDATE changes one only where all of
its WHERE holds (developerguide/ql-reference.update.html). Of what PutItem does for single records, that is:

- a claim of a free key, as INSERT;
- an outcome over the claim of the same owner, as UPDATE: it sets all that the outcome has, and removes the lease, which
  is all that a claim has beside it. Attributes that are none of ours stay, where PutItem would remove them.

All else (takeovers, packed answers, names that would need escapes) is left to single requests. What stands where an
INSERT was refused is read by BatchGetItem, consistently.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from retrysafe.persistence._dynamodb.commands import Command
from retrysafe.persistence.wire import OWNER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retrysafe.persistence._dynamodb.items import Item, Items
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.many import Operation

STATEMENTS: Final = "BatchExecuteStatement"
READS: Final = "BatchGetItem"

MOST_STATEMENTS: Final = 25
MOST_READS: Final = 100

LARGEST_TOGETHER: Final = 32_768
"""Characters of an answer that goes with others. A larger one gains nothing, and would hold the others up."""

DUPLICATE: Final = "DuplicateItem"
DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException"})
"""Of a statement, and of a request. To a request, STS says `AccessDenied` where boto3 cannot assume its role."""
_UNKNOWN: Final = frozenset({"UnknownOperation", "UnknownOperationException", "NotImplemented"})
_MALFORMED: Final = "well formed"
_EXPECTED: Final = _UNKNOWN | {"AccessDeniedException", "ValidationException"}

_PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]+")


class Statements:
    """Makes statements of requests for single records.

    Args:
        table_name: The table.
        items: What its items look like.

    Attributes:
        are_possible: Whether the names can stand in statements as they are.
    """

    __slots__ = ("_inserts", "_items", "_key_names", "_lease", "_status", "_table", "_updates", "are_possible")

    def __init__(self, table_name: str, items: Items) -> None:
        names = items.names
        self._table = table_name
        self._items = items
        self._key_names = tuple(items.key(""))
        self._lease = names.in_progress_expiry
        self._status = names.status
        self._inserts: dict[tuple[str, ...], str] = {}
        self._updates: dict[tuple[str, ...], str] = {}
        attributes = (*self._key_names, names.expiry, self._lease, self._status, names.data, names.validation)
        self.are_possible = bool(_PLAIN_TABLE.fullmatch(table_name)) and all(map(_PLAIN.fullmatch, attributes))

    def take(self, operation: Operation, record: DataRecord) -> bool:
        """Whether what the method writes first can go as a statement."""
        if operation == "put":
            return record.replaces is None
        if record.owner is None or record.expiry_timestamp is None:
            return False
        return len(record.response_data) + len(record.types) <= LARGEST_TOGETHER

    def statement(self, operation: Operation, command: Command) -> dict[str, Any] | None:
        """The statement that does what the method's first request would do; None where that is another one."""
        if command.operation != "PutItem":
            return None
        item: Item = command.parameters["Item"]
        return self._insert(item) if operation == "put" else self._update(item)

    def _insert(self, item: Item) -> dict[str, Any]:
        text = self._inserts.get(names := tuple(item))
        if text is None:
            attributes = ", ".join(f"'{name}': ?" for name in names)
            text = self._inserts[names] = f'INSERT INTO "{self._table}" VALUE {{{attributes}}}'
        return {"Statement": text, "Parameters": list(item.values())}

    def _update(self, item: Item) -> dict[str, Any]:
        """Where the owner is the same and has not finished; the condition of `Commands.complete`."""
        text = self._updates.get(names := tuple(item))
        if text is None:
            changes = "SET " + ", ".join(f'"{name}"=?' for name in self._changed(names))
            if self._lease not in item:
                changes += f' REMOVE "{self._lease}"'
            conditions = " AND ".join(f'"{name}"=?' for name in (*self._key_names, OWNER, self._status))
            text = self._updates[names] = f'UPDATE "{self._table}" {changes} WHERE {conditions}'
        values = [item[name] for name in (*self._changed(names), *self._key_names, OWNER)]
        return {"Statement": text, "Parameters": [*values, {"S": "INPROGRESS"}]}

    def _changed(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self._key_names and name != OWNER]

    def read(self, keys: Sequence[str]) -> Command:
        """Look what stands under the keys, in the copy that has every write."""
        wanted = {"Keys": [self._items.key(key) for key in keys], "ConsistentRead": True}
        return Command(READS, {"RequestItems": {self._table: wanted}}, _EXPECTED)

    def found(self, reply: Any) -> dict[str, Mapping[str, Any]]:
        """The items that such a look found, by idempotency key."""
        items: list[Mapping[str, Any]] = reply.get("Responses", {}).get(self._table, [])
        return {item[self._key_names[-1]]["S"]: item for item in items}


def together(statements: Sequence[dict[str, Any]]) -> Command:
    """One request for all of them."""
    return Command(STATEMENTS, {"Statements": statements}, _EXPECTED)


def is_unsupported(reply: Any) -> bool:
    """Whether the reply, to a request or to a statement, says that the server has no such thing."""
    error = reply.get("Error", {})
    code, said = str(error.get("Code", "")).rpartition("#")[2], str(error.get("Message", "")).lower()
    if code == "ValidationException":
        return STATEMENTS.lower() in said or READS.lower() in said
    return code in _UNKNOWN or (code == "ValidationError" and _MALFORMED in said)
