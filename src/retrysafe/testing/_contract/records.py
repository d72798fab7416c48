"""The records that checks write, made as a call makes them, and the passing of time around them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord
from retrysafe.testing._contract.driving import settled

if TYPE_CHECKING:
    from retrysafe.testing._contract.hooks import Hooks

# A little more than nothing, so that a store's own clock has really passed a moment.
MARGIN_SECONDS = 0.05


class Records:
    """Makes records for one layer.

    Args:
        hooks: What the author of the layer says.
        layer: The layer, of either kind.
        namespace: What stands before `#` in keys. Default: a random one, which no other check uses.
    """

    def __init__(self, hooks: Hooks, layer: Any, namespace: str | None = None) -> None:
        self.hooks = hooks
        self.layer = layer
        self._namespace = f"contract-{uuid.uuid4().hex}" if namespace is None else namespace

    def key(self, name: str) -> str:
        """A key of this check alone, should others share its store."""
        return f"{self._namespace}#{name}"

    def now_ms(self) -> int:
        """The caller's clock."""
        now: int = self.layer.clock.now_ms()
        return now

    def claim(
        self,
        name: str = "order",
        owner: str | None = "owner-1",
        *,
        lease: float | None = None,
        window: int | None = None,
        payload_hash: str = "",
        attempt: int = 1,
        replaces: DataRecord | None = None,
    ) -> DataRecord:
        """A record that claims a key from now on, as a call makes it; lease and window in seconds."""
        now = self.now_ms()
        lease_end = now + round((self.hooks.lease_seconds if lease is None else lease) * 1000)
        window_end = now // 1000 + (self.hooks.window_seconds if window is None else window)
        return DataRecord(
            self.key(name),
            INPROGRESS,
            max(window_end, -(-lease_end // 1000)),
            lease_end,
            payload_hash=payload_hash,
            owner=owner,
            attempt=attempt,
            replaces=replaces,
            made_at_ms=now,
        )

    def takeover(self, seen: DataRecord, owner: str | None = "owner-2") -> DataRecord:
        """A claim that takes over the record seen."""
        name = seen.idempotency_key.removeprefix(f"{self._namespace}#")
        return self.claim(name, owner, payload_hash=seen.payload_hash, attempt=seen.attempt + 1, replaces=seen)

    def outcome(
        self, claim: DataRecord, data: str = '"paid"', *, status: str = COMPLETED, types: str = ""
    ) -> DataRecord:
        """The record that completes a claim, with a window that starts now."""
        now = self.now_ms()
        return claim.replaced(
            status=status,
            expiry_timestamp=now // 1000 + self.hooks.window_seconds,
            in_progress_expiry_timestamp=None,
            response_data=data,
            types=types,
            replaces=None,
            made_at_ms=now,
        )

    def renewal(self, claim: DataRecord, *, lease: float | None = None, window: int | None = None) -> DataRecord:
        """The claim with a lease that starts now."""
        name = claim.idempotency_key.removeprefix(f"{self._namespace}#")
        anew = self.claim(name, claim.owner, lease=lease, window=window)
        return claim.replaced(
            in_progress_expiry_timestamp=anew.in_progress_expiry_timestamp,
            expiry_timestamp=anew.expiry_timestamp,
            replaces=None,
            made_at_ms=anew.made_at_ms,
        )

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        await settled(self.hooks.advance(seconds))

    async def advance_to(self, moment_ms: int) -> None:
        """Let time pass until this moment of a clock that stands still."""
        await self.advance((moment_ms - self.now_ms()) / 1000)

    async def outlive_lease(self, record: DataRecord) -> None:
        """Let time pass until the record's lease is over."""
        left = (record.in_progress_expiry_timestamp or 0) - self.now_ms()
        await self.advance(max(0.0, left / 1000) + MARGIN_SECONDS)

    async def outlive_window(self, record: DataRecord) -> None:
        """Let time pass until the record's window is over."""
        left = ((record.expiry_timestamp or 0) + 1) * 1000 - self.now_ms()
        rounded_up = 1.0 if self.hooks.own_clock else 0.0
        await self.advance(max(0.0, left / 1000) + MARGIN_SECONDS + rounded_up)
