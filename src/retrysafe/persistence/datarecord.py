"""The record: what one idempotency key has in a store, whichever store that is.

Times are absolute: the window's end in seconds, the lease's end in milliseconds, both since the epoch in UTC.
A layer whose store has a clock of its own moves them to that clock when it writes (they were set when the caller's
clock showed `made_at_ms`), and says with `read_at_ms` what that clock showed when it read.
A record is never changed after it was made: `replaced()` makes another.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from retrysafe.clock import SYSTEM_CLOCK
from retrysafe.exceptions import IdempotencyInvalidStatusError

if TYPE_CHECKING:
    import datetime as dt

INPROGRESS: Final = "INPROGRESS"
COMPLETED: Final = "COMPLETED"
FAILED: Final = "FAILED"
UNAVAILABLE: Final = "UNAVAILABLE"
EXPIRED: Final = "EXPIRED"

STORED_STATUSES: Final = frozenset({INPROGRESS, COMPLETED, FAILED, UNAVAILABLE})

STATUS_CONSTANTS: Final = MappingProxyType({each: each for each in (INPROGRESS, COMPLETED, EXPIRED)})
"""The statuses that Powertools has, for layers that were written for it."""


class DataRecord:
    """One record of one idempotency key.

    Args:
        idempotency_key: The key, `{prefix}#{hash}`.
        status: `INPROGRESS`, `COMPLETED`, `FAILED` (a stored failure) or `UNAVAILABLE` (completed, answer not
            storable).
        expiry_timestamp: End of the window, whole seconds since the epoch; None: never.
        in_progress_expiry_timestamp: End of the lease, milliseconds since the epoch; None: no lease.
        response_data: The answer as JSON text; "" while there is none.
        payload_hash: Hash of the validated part of the payload; "" without validation.
        sort_key: The sort key, where the layer has composite keys.
        owner: Owner token of the call that wrote the record; None where a peer wrote it.
        attempt: 1, and one more at each takeover.
        types: Which places of the answer hold types that JSON lacks; "" where none does.
        replaces: On a claim that takes over: the record seen, which must still stand exactly. Never stored.
        made_at_ms: On a record to write: what the caller's clock showed when its times were set. Never stored.
        read_at_ms: On a record read: what the store's own clock showed then; None where it has none. Never stored.
        shown_as: On a record read: the whole key, where the store's has more parts; "" where not. Never stored.

    Attributes:
        stored_status: The status as it was given, and as a layer stores it; `status` is `EXPIRED` once the window is
            over.
    """

    __slots__ = (
        "attempt",
        "expiry_timestamp",
        "idempotency_key",
        "in_progress_expiry_timestamp",
        "made_at_ms",
        "owner",
        "payload_hash",
        "read_at_ms",
        "replaces",
        "response_data",
        "shown_as",
        "sort_key",
        "stored_status",
        "types",
    )

    def __init__(
        self,
        idempotency_key: str,
        status: str = "",
        expiry_timestamp: int | None = None,
        in_progress_expiry_timestamp: int | None = None,
        response_data: str = "",
        payload_hash: str = "",
        sort_key: str | None = None,
        owner: str | None = None,
        attempt: int = 1,
        types: str = "",
        replaces: DataRecord | None = None,
        made_at_ms: int | None = None,
        read_at_ms: int | None = None,
        shown_as: str = "",
    ) -> None:
        self.idempotency_key = idempotency_key
        self.stored_status = status
        self.expiry_timestamp = expiry_timestamp
        self.in_progress_expiry_timestamp = in_progress_expiry_timestamp
        self.response_data = response_data
        self.payload_hash = payload_hash
        self.sort_key = sort_key
        self.owner = owner
        self.attempt = attempt
        self.types = types
        self.replaces = replaces
        self.made_at_ms = made_at_ms
        self.read_at_ms = read_at_ms
        self.shown_as = shown_as

    def replaced(self, **changes: Any) -> DataRecord:
        """A copy with some fields changed; `status` names the status."""
        fields = {("status" if name == "stored_status" else name): getattr(self, name) for name in self.__slots__}
        return DataRecord(**(fields | changes))

    @property
    def shown_key(self) -> str:
        """The key as errors show it: whole, where the store's has more parts."""
        return self.shown_as or self.idempotency_key

    @property
    def status(self) -> str:
        """The status by the machine's clock: `EXPIRED` once the window is over.

        Raises:
            IdempotencyInvalidStatusError: The stored status is none that this version knows.
        """
        if self.is_expired:
            return EXPIRED
        if self.stored_status in STORED_STATUSES:
            return self.stored_status
        raise IdempotencyInvalidStatusError(f"unknown record status {self.stored_status!r}")

    @property
    def is_expired(self) -> bool:
        """Whether the window is over by the machine's clock."""
        return self.window_over(SYSTEM_CLOCK.now_ms())

    def window_over(self, now_ms: int) -> bool:
        """Whether the record counts as gone at `now_ms` (since the epoch): its window is over and no lease runs.

        The window is kept in whole seconds and counts until that second has passed, as the peers judge it, so
        it is never shorter than asked. It never cuts a running lease short.
        """
        if self.expiry_timestamp is None or self.expiry_timestamp >= now_ms // 1000:
            return False
        if self.stored_status not in STORED_STATUSES:
            return False  # what a later version wrote is its own to judge
        return self.stored_status != INPROGRESS or self.lease_over(now_ms) is not False

    def lease_over(self, now_ms: int) -> bool | None:
        """Whether the lease has ended at `now_ms` (since the epoch); None where the record has no lease."""
        if self.in_progress_expiry_timestamp is None:
            return None
        return self.in_progress_expiry_timestamp < now_ms

    def same_claim(self, other: DataRecord) -> bool:
        """Whether both are the same write of the same call: status, owner, attempt and lease are equal."""
        return (
            self.stored_status == other.stored_status
            and self.owner == other.owner
            and self.attempt == other.attempt
            and self.in_progress_expiry_timestamp == other.in_progress_expiry_timestamp
        )

    def get_expiration_datetime(self) -> dt.datetime | None:
        """End of the window as an aware UTC datetime; None where there is none."""
        if self.expiry_timestamp is None:
            return None
        import datetime as dt  # noqa: PLC0415  # rarely asked for

        return dt.datetime.fromtimestamp(int(self.expiry_timestamp), tz=dt.UTC)  # a layer may tell a Decimal

    def response_json_as_dict(self) -> Any:
        """The answer as plain JSON, without the types that `types` tells of; None while there is none."""
        return json.loads(self.response_data) if self.response_data else None

    def __eq__(self, other: object) -> bool:
        """Equal where everything stored is equal."""
        if not isinstance(other, DataRecord):
            return NotImplemented
        return all(
            getattr(self, name) == getattr(other, name)
            for name in self.__slots__
            if name not in ("replaces", "made_at_ms", "read_at_ms", "shown_as")
        )

    __hash__ = None  # type: ignore[assignment]  # a record is compared, never looked up

    def __repr__(self) -> str:
        """Everything but the answer, which may be private."""
        return (
            f"DataRecord({self.idempotency_key!r}, status={self.stored_status!r}, owner={self.owner!r}, "
            f"attempt={self.attempt}, in_progress_expiry_timestamp={self.in_progress_expiry_timestamp}, "
            f"expiry_timestamp={self.expiry_timestamp}, response_data=<{len(self.response_data or '')} characters>)"
        )
