"""One call, fixed when it starts: its key, payload hash, owner token and rules, handed along as one value.

It is worked out once, before the function runs, and never changes afterwards; so a payload that the function
changes changes nothing. The records that a call writes are made here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from retrysafe.events import level_of
from retrysafe.lease import UNDECIDED
from retrysafe.persistence.datarecord import INPROGRESS, DataRecord

if TYPE_CHECKING:
    from retrysafe.events import IdempotencyEvent
    from retrysafe.lease import Lease
    from retrysafe.plan import Plan


UNSET: Any = object()


class Call:
    """One call of one function. `begin_call` makes it and fills it in, since `__init__` costs a replay a fiftieth.

    Attributes:
        plan: What was decided when decorating.
        idempotency_key: The key, `{prefix}#{hash}`.
        payload_hash: Hash of the validated part of the payload; "" without validation.
        owner: The owner token: a random one, which no other call can have, drawn at the first claim; or the one that
            several invocations of one durable execution share.
        is_durable: Whether they do.
        resumes: Whether a durable execution is being replayed, so that a record of this owner that is INPROGRESS comes
            from an earlier invocation of it; or has suspended itself, and will be.
        lease: How long it may be silent; decided at the first claim, where it begins.
    """

    __slots__ = ("idempotency_key", "is_durable", "lease", "owner", "payload_hash", "plan", "resumes")

    plan: Plan
    idempotency_key: str
    payload_hash: str
    owner: str | None
    is_durable: bool
    resumes: bool
    lease: Lease

    def claim(self, replaces: DataRecord | None = None, attempt: int = 1) -> DataRecord:
        """The record that claims the key for this call, from now on."""
        plan, lease = self.plan, self.lease
        if lease is UNDECIDED:
            lease = self.lease = plan.lease()
        now = plan.clock.now_ms()
        lease_end = now + lease.length_ms if lease.end_ms is None else lease.end_ms
        if self.resumes and plan.config.in_progress_expires_after_seconds is None:
            # Nothing renews a lease between two invocations, and this execution goes on with its claim by its name.
            lease_end = max(lease_end, now + plan.config.expires_after_seconds * 1000)
        # For a window, and never less than the lease: a peer judges a running record by its window alone.
        window_end = now // 1000 + plan.claim_seconds
        if window_end * 1000 < lease_end:
            window_end = -(-lease_end // 1000)
        owner = self.owner
        if owner is None:
            # Never out of tokens drawn ahead: a copy of this process, forked or restored from a snapshot, would have
            # the same ones, and two owners of one name would both run.
            owner = self.owner = os.urandom(16).hex()
        return DataRecord(
            self.idempotency_key,
            INPROGRESS,
            window_end,
            lease_end,
            "",
            self.payload_hash,
            None,
            owner,
            attempt,
            "",
            replaces,
            now,
        )

    def renewal(self, claim: DataRecord) -> DataRecord:
        """The claim with a lease that starts now."""
        return self.claim(attempt=claim.attempt)

    def is_short(self, claim: DataRecord, now_ms: int) -> bool:
        """Whether too little is left of a claim's lease to begin; never that of an invocation, which ends with it."""
        lease_end = claim.in_progress_expiry_timestamp
        return lease_end is not None and self.lease.end_ms is None and lease_end - now_ms < self.lease.least_ms

    def outcome(self, claim: DataRecord, status: str, data: str = "", types: str = "") -> DataRecord:
        """The record that completes this call, with a window that starts now."""
        plan = self.plan
        now = plan.clock.now_ms()
        return DataRecord(
            self.idempotency_key,
            status,
            now // 1000 + plan.config.expires_after_seconds,
            None,
            data,
            self.payload_hash,
            None,
            self.owner,
            claim.attempt,
            types,
            None,
            now,
        )

    def tell(self, kind: type[IdempotencyEvent], record: DataRecord, **details: Any) -> None:
        """Report an event, if anybody listens."""
        level = level_of(kind, details)
        if self.plan.listener.hears(level):
            self.plan.listener.tell(kind, record, level, **details)


def begin_call(
    plan: Plan, payload: Any, execution_id: str | None = None, is_replay: bool = False, *, key: Any = UNSET
) -> Call | None:
    """Make the call for one payload, or None for a payload that has no key.

    Args:
        plan: What was decided when decorating.
        payload: What the payload hash is made of, and the key too where `key` is not given.
        execution_id: The name of the durable execution that the call belongs to.
        is_replay: Whether that is being replayed.
        key: A value that makes the key, instead of what `event_key_jmespath` selects.

    Raises:
        IdempotencyKeyError: The payload cannot be hashed; or it has no key, under
            `raise_on_no_idempotency_key`.
    """
    keys = plan.keys
    digest = keys.key_hash(payload) if key is UNSET else keys.hash_of(key)
    if digest is None:
        plan.no_key(is_given=key is not UNSET)
        return None
    call = Call()
    call.plan = plan
    call.idempotency_key = plan.key_stem + digest
    call.payload_hash = keys.payload_hash(payload) if keys.validates else ""
    call.owner = None if execution_id is None else f"durable:{execution_id}"
    call.is_durable = execution_id is not None
    call.resumes = is_replay and call.is_durable
    call.lease = UNDECIDED
    return call
