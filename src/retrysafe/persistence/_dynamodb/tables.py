"""A table looked at, and a table made: as steps over requests, pure, sync or async."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import IdempotencyPersistenceConfigError, IdempotencyPersistenceConnectionError
from retrysafe.persistence._dynamodb.commands import Command
from retrysafe.persistence._dynamodb.errors import code_of

if TYPE_CHECKING:
    from retrysafe.persistence._dynamodb.items import Items
    from retrysafe.persistence._dynamodb.service_time import ServiceTime
    from retrysafe.persistence._dynamodb.steps import Steps

_MISSING: Final = "ResourceNotFoundException"
_EXISTS: Final = "ResourceInUseException"
_DENIED: Final = "AccessDeniedException"
_INVALID: Final = "ValidationException"
_LOOKED: Final = frozenset({_MISSING, _DENIED})

# How often to look whether a table has come up, and at what distance: for a minute.
_LOOKS: Final = 120
_PAUSE_SECONDS: Final = 0.5

_TTL_OFF: Final = ("DISABLED", "DISABLING")


class DynamoDBFinding:
    """What is wrong with a table, or with how it is used.

    Args:
        code: `table-missing`, `table-not-active`, `wrong-key`, `ttl-off`, `ttl-attribute`, `several-regions`,
            `not-permitted` or `clock-wrong`.
        message: The same for a person, with what to do.
    """

    __slots__ = ("code", "message")

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DynamoDBFinding) and (self.code, self.message) == (other.code, other.message)

    def __hash__(self) -> int:
        return hash((self.code, self.message))

    def __repr__(self) -> str:
        return f"DynamoDBFinding({self.code!r}, {self.message!r})"

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class TableSteps:
    """What is done to a table as a whole.

    Args:
        table_name: The table.
        items: What its items look like.
        time: What is known of the clocks.
    """

    __slots__ = ("_items", "_table", "_time")

    def __init__(self, table_name: str, items: Items, time: ServiceTime) -> None:
        self._table = table_name
        self._items = items
        self._time = time

    def check(self) -> Steps[list[DynamoDBFinding]]:
        """What is wrong; empty where nothing is."""
        described = yield from self._sent("DescribeTable", _LOOKED)
        if code_of(described) == _MISSING:
            return [
                *self._clock(),
                DynamoDBFinding(
                    "table-missing",
                    f"there is no table {self._table!r} in this region and account: layer.create_table() makes it",
                ),
            ]
        found = self._clock()
        table: dict[str, Any] = described.get("Table", {})
        if code_of(described) == _DENIED:
            found.append(_not_permitted("DescribeTable", "status and key"))
        else:
            found += self._looked_at(table)
        described = yield from self._sent("DescribeTimeToLive", _LOOKED)
        if code_of(described) == _DENIED:
            found.append(_not_permitted("DescribeTimeToLive", "removal of what is over"))
        elif not code_of(described):
            found += self._time_to_live(described["TimeToLiveDescription"], is_strong=_is_strong(table))
        return found

    def create(self) -> Steps[None]:
        """Make the table, or what is missing about it; a table that is right is left as it is.

        Raises:
            IdempotencyPersistenceConfigError: A table of this name has another key, or removes by another attribute.
            IdempotencyPersistenceConnectionError: It did not come up within a minute.
        """
        if self._table.startswith("arn:"):
            raise IdempotencyPersistenceConfigError(f"table_name={self._table!r}: a table is made by its name")
        key = self._key_schema()
        yield Command(
            "CreateTable",
            {
                "TableName": self._table,
                "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name, _ in key],
                "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in key],
                "BillingMode": "PAY_PER_REQUEST",
            },
            frozenset({_EXISTS}),
        )
        table = yield from self._active()
        self._refuse(self._wrong_key(table))
        if _is_strong(table) or (yield from self._ends_by_itself()):
            return
        expires = {"Enabled": True, "AttributeName": self._items.names.expiry}
        switch = {"TableName": self._table, "TimeToLiveSpecification": expires}
        switched = yield Command("UpdateTimeToLive", switch, frozenset({_INVALID, _EXISTS}))
        # Whoever makes the table at the same time may have switched it on meanwhile, which is refused a second time.
        if code_of(switched) and not (yield from self._ends_by_itself()):
            yield Command("UpdateTimeToLive", switch)

    def _ends_by_itself(self) -> Steps[bool]:
        """Whether time to live is on.

        Raises:
            IdempotencyPersistenceConfigError: It looks at another attribute.
        """
        described = yield Command("DescribeTimeToLive", {"TableName": self._table})
        description = described["TimeToLiveDescription"]
        if description["TimeToLiveStatus"] in _TTL_OFF:
            return False
        self._refuse(next(iter(self._time_to_live(description)), None))
        return True

    def _refuse(self, wrong: DynamoDBFinding | None) -> None:
        if wrong is not None:
            raise IdempotencyPersistenceConfigError(
                f"the table {self._table!r} is there and is another's", wrong.message
            )

    def _active(self) -> Steps[dict[str, Any]]:
        """The table, once it has come up."""
        for _ in range(_LOOKS):
            described = yield Command("DescribeTable", {"TableName": self._table}, frozenset({_MISSING}))
            if not code_of(described) and described["Table"]["TableStatus"] in ("ACTIVE", "UPDATING"):
                table: dict[str, Any] = described["Table"]
                return table
            yield Command("Pause", {"seconds": _PAUSE_SECONDS})
        raise IdempotencyPersistenceConnectionError(f"the table {self._table!r} is not active yet; look again later")

    def _sent(self, operation: str, expected: frozenset[str]) -> Steps[Any]:
        sent_at = self._time.stopwatch()
        reply = yield Command(operation, {"TableName": self._table}, expected)
        self._time.note(reply, sent_at)
        return reply

    def _clock(self) -> list[DynamoDBFinding]:
        if not self._time.is_wrong:
            return []
        seconds = self._time.skew_ms / 1000
        return [
            DynamoDBFinding(
                "clock-wrong",
                f"this machine's clock is {abs(seconds):.1f} s {'behind' if seconds > 0 else 'ahead of'} DynamoDB's: "
                "leases and windows are corrected by that, but set it right",
            )
        ]

    def _looked_at(self, table: dict[str, Any]) -> list[DynamoDBFinding]:
        found: list[DynamoDBFinding] = []
        status = table.get("TableStatus", "ACTIVE")
        if status not in ("ACTIVE", "UPDATING"):
            found.append(DynamoDBFinding("table-not-active", f"the table's status is {status}: it takes no requests"))
        wrong_key = self._wrong_key(table)
        if wrong_key is not None:
            found.append(wrong_key)
        if table.get("Replicas") and not _is_strong(table):
            found.append(
                DynamoDBFinding(
                    "several-regions",
                    "the table is replicated to other regions, eventually: duplicates in two regions at about the "
                    "same time both run; send those of one key to one region, or use multi-Region strong consistency",
                )
            )
        return found

    def _wrong_key(self, table: dict[str, Any]) -> DynamoDBFinding | None:
        kinds = {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]}
        stands = [(each["AttributeName"], each["KeyType"]) for each in table["KeySchema"]]
        if stands == self._key_schema() and all(kinds[name] == "S" for name, _ in stands):
            return None
        wanted = ", ".join(f"{name} ({kind}, S)" for name, kind in self._key_schema())
        shown = ", ".join(f"{name} ({kind}, {kinds.get(name)})" for name, kind in stands)
        return DynamoDBFinding(
            "wrong-key",
            f"the table's key is {shown}, and key_attr and sort_key_attr say {wanted}: "
            "change these, or use another table",
        )

    def _key_schema(self) -> list[tuple[str, str]]:
        key = [(self._items.key_attr, "HASH")]
        return key if self._items.sort_key_attr is None else [*key, (self._items.sort_key_attr, "RANGE")]

    def _time_to_live(self, description: dict[str, Any], *, is_strong: bool = False) -> list[DynamoDBFinding]:
        wanted = self._items.names.expiry
        if description["TimeToLiveStatus"] in _TTL_OFF:
            remedy = f"switch it on for {wanted!r}, as layer.create_table() does"
            if is_strong:
                remedy = f"a table of multi-Region strong consistency has none, so delete by {wanted!r} yourself"
            return [
                DynamoDBFinding(
                    "ttl-off",
                    "time to live is off, so records stay (and cost) for ever, though they count as gone when their "
                    f"window is over: {remedy}",
                )
            ]
        standing = description.get("AttributeName")
        if standing == wanted:
            return []
        return [
            DynamoDBFinding(
                "ttl-attribute",
                f"time to live looks at {standing!r}, and expiry_attr is {wanted!r}: records are not removed, "
                "or too early",
            )
        ]


def _is_strong(table: dict[str, Any]) -> bool:
    """Whether it is strongly consistent over several regions; AWS gives such a table no time to live.

    Source: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/V2globaltables_HowItWorks.html
    """
    return table.get("MultiRegionConsistency") == "STRONG"


def _not_permitted(operation: str, what: str) -> DynamoDBFinding:
    return DynamoDBFinding(
        "not-permitted", f"dynamodb:{operation} is not permitted, so the table's {what} could not be looked at"
    )
