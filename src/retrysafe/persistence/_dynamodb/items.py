"""Records as items of a table, and items as records: keys, DynamoDB's notation of values, and answers that are packed.

Names and forms of the attributes are those of `wire`. Here stands what is DynamoDB's own: every value says its type,
and an item holds at most 400 KB. An answer that makes it larger is packed: the item says `UNAVAILABLE`, at which every
other worker refuses, and holds what it really is in one more attribute, `packed`, that only we read.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import IdempotencyPersistenceConsistencyError, IdempotencyResponseUnavailableError
from retrysafe.persistence.datarecord import STORED_STATUSES, UNAVAILABLE, DataRecord
from retrysafe.persistence.wire import ATTEMPT, OWNER, TYPES, AttributeNames, from_attributes, to_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    Item: TypeAlias = dict[str, dict[str, Any]]

PACKED: Final = "packed"
PACKED_VERSION: Final = "1"
_DIGEST: Final = ',"of":"'

LARGEST_ITEM: Final = 400 * 1024
"""Bytes, names of the attributes included."""

# Of less than so many characters an item is never too large, whatever they are: at most four bytes each.
_SURELY_FITS: Final = LARGEST_ITEM // 4 - 4096


class Items:
    """The items of one table.

    Args:
        names: What the attributes are called.
        key_attr: The name of the partition key.
        sort_key_attr: The name of the sort key, which then holds the idempotency key; None without one.
        static_pk_value: What the partition key holds where there is a sort key.
    """

    __slots__ = ("_read", "_static", "key_attr", "names", "sort_key_attr")

    def __init__(self, names: AttributeNames, key_attr: str, sort_key_attr: str | None, static_pk_value: str) -> None:
        self.names = names
        self.key_attr = key_attr
        self.sort_key_attr = sort_key_attr
        self._static = static_pk_value
        self._read = (
            *(names.status, names.expiry, names.in_progress_expiry, names.data, names.validation),
            *(OWNER, ATTEMPT, TYPES),
        )

    def key(self, idempotency_key: str) -> Item:
        """The key of the item."""
        if self.sort_key_attr is None:
            return {self.key_attr: {"S": idempotency_key}}
        return {self.key_attr: {"S": self._static}, self.sort_key_attr: {"S": idempotency_key}}

    def shown(self, idempotency_key: str) -> str:
        """The whole key, for errors."""
        if self.sort_key_attr is None:
            return idempotency_key
        return f"{self.key_attr}={self._static}, {self.sort_key_attr}={idempotency_key}"

    def item(self, record: DataRecord) -> Item:
        """The item that the record is."""
        item = self.key(record.idempotency_key)
        for name, value in to_attributes(record, self.names).items():
            if value is not None:
                item[name] = {"S": value} if isinstance(value, str) else {"N": str(value)}
        if record.types:
            item[TYPES] = {"S": _bound(record.types, record.response_data)}
        return item

    def same_outcome(self, written: Item, standing: Mapping[str, Any] | None) -> bool:
        """Whether the item that stands is the outcome that was to be written, whatever its times are."""
        names = (OWNER, self.names.status, self.names.data, TYPES, PACKED)
        return standing is not None and all(written.get(name) == standing.get(name) for name in names)

    def packed(self, record: DataRecord) -> Item:
        """The same with its answer packed.

        Raises:
            IdempotencyResponseUnavailableError: It is too large even so.
        """
        import zlib  # noqa: PLC0415  # only large answers need it

        data = zlib.compress(json.dumps([record.response_data, record.types]).encode())
        shell = record.replaced(status=UNAVAILABLE, response_data="", types="")
        item = self.item(shell)
        item[PACKED] = {"M": {"v": {"N": PACKED_VERSION}, "status": {"S": record.stored_status}, "zip": {"B": data}}}
        if len(data) + 64 + self._size(shell) > LARGEST_ITEM:
            raise IdempotencyResponseUnavailableError(
                f"the answer is too large for an item of DynamoDB: {len(record.response_data):,} characters, "
                f"{len(data):,} bytes when compressed",
                self.shown(record.idempotency_key),
            )
        return item

    def fits(self, record: DataRecord) -> bool:
        """Whether the record's item is not too large as it is."""
        if len(record.response_data) + len(record.types) < _SURELY_FITS:
            return True
        return self._size(record) <= LARGEST_ITEM

    def _size(self, record: DataRecord) -> int:
        parts = self.item(record)
        return sum(_length(name) + sum(map(_length, value.values())) for name, value in parts.items())

    def record(self, idempotency_key: str, item: Mapping[str, Any]) -> DataRecord:
        """The record that an item is. Attributes of others in it are passed over.

        Raises:
            IdempotencyPersistenceConsistencyError: It is none.
        """
        attributes: dict[str, Any] = {}
        for name in self._read:
            value = item.get(name)
            if value is not None:
                try:
                    attributes[name] = _plain(value)
                except (TypeError, ValueError, RecursionError):
                    raise self._unreadable(idempotency_key, name) from None
        types = attributes.get(TYPES)
        if type(types) is str:
            attributes[TYPES] = types = _unbound(types, attributes.get(self.names.data))
            if types is None:
                # A late Powertools worker has put its answer over ours, and left our attributes: read as its own.
                del attributes[OWNER]
        record = from_attributes(self.shown(idempotency_key), attributes, self.names)
        record.idempotency_key = idempotency_key
        if self.sort_key_attr is not None:
            record.sort_key, record.shown_as = idempotency_key, self.shown(idempotency_key)
        if PACKED in item and record.stored_status == UNAVAILABLE:
            self._unpack(record, item[PACKED])
        return record

    def _unpack(self, record: DataRecord, packed: Any) -> None:
        import zlib  # noqa: PLC0415  # only large answers need it

        try:
            parts = packed["M"]
            if parts["v"]["N"] != PACKED_VERSION or parts["status"]["S"] not in STORED_STATUSES:
                raise ValueError  # noqa: TRY301  # of a later version
            data, types = json.loads(zlib.decompress(parts["zip"]["B"]))
            record.response_data, record.types = str(data), str(types)
            record.stored_status = parts["status"]["S"]
        except (KeyError, TypeError, ValueError, zlib.error):
            raise self._unreadable(record.idempotency_key, PACKED) from None

    def _unreadable(self, idempotency_key: str, name: str) -> IdempotencyPersistenceConsistencyError:
        return IdempotencyPersistenceConsistencyError(
            f"the record {self.shown(idempotency_key)} cannot be read: its attribute {name!r} is of the wrong kind; "
            "it is left as it is"
        )


def _bound(types: str, data: str) -> str:
    """The types, with a digest of the answer that they belong to as the last entry of their object."""
    return f'{types[:-1]}{_DIGEST}{_digest(data)}"{types[-1]}'


def _unbound(types: str, data: Any) -> str | None:
    """The types without that digest; None where the answer is another one."""
    text, mark, end = types.rpartition(_DIGEST)
    if not mark:
        return types
    return f"{text}{end[-1]}" if type(data) is str and end[:-2] == _digest(data) else None


def _digest(data: str) -> str:
    import hashlib  # noqa: PLC0415  # only answers of more types than JSON has need it

    return hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _length(value: Any) -> int:
    text = str(value)
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _plain(value: dict[str, Any]) -> Any:
    """A value out of DynamoDB's notation, as JSON has it.

    Raises:
        TypeError: JSON has nothing for it: bytes, or a set.
        ValueError: It is no value.
    """
    ((kind, content),) = value.items()
    if kind in ("S", "BOOL"):
        return content
    if kind == "N":
        return _number(content)
    if kind == "M":
        return {name: _plain(each) for name, each in content.items()}
    if kind == "L":
        return [_plain(each) for each in content]
    if kind == "NULL":
        return None
    raise TypeError(kind)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
