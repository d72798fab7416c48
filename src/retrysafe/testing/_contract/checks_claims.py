"""Checks of `_put_record` and `_get_record`: who may claim, for how long a record counts, and what is never touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrysafe.exceptions import (
    IdempotencyInvalidStatusError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyPersistenceConsistencyError,
)
from retrysafe.persistence.datarecord import COMPLETED, FAILED, UNAVAILABLE
from retrysafe.testing._contract.driving import settled
from retrysafe.testing._contract.suite import Suite, check

if TYPE_CHECKING:
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.testing._contract.store import Store

# Enough for a layer that sweeps as it writes to sweep.
OTHER_WRITES = 130
CENTURY_SECONDS = 3_153_600_000
UNKNOWN_STATUS = "PAUSED"


class ClaimChecks(Suite):
    """A claim is stored if no live record stands, and else is told which one does."""

    @check()
    async def test_a_claim_on_a_free_key_wins_and_reads_back_equal(self, store: Store) -> None:
        """A claim on a free key wins, and the record reads back equal in every field."""
        claim = store.claim(payload_hash="9f2c", attempt=3)
        await store.wins(claim)
        await store.stands(claim)

    @check()
    async def test_a_key_without_a_record_is_not_found(self, store: Store) -> None:
        """Reading a key without a record raises IdempotencyItemNotFoundError."""
        await store.gone(store.claim())
        await store.wins(store.claim("another order"))
        await store.gone(store.claim())

    @check()
    async def test_a_running_record_refuses_claims_and_is_told(self, store: Store) -> None:
        """A record whose lease runs refuses every claim, its own owner's too, which is told exactly that record."""
        claim = store.claim(payload_hash="9f2c")
        await store.wins(claim)
        await store.refuses(claim, claim)
        await store.refuses(store.claim(owner="owner-2", payload_hash="ffff"), claim)
        await store.refuses(store.claim(owner="owner-3"), claim)

    @check()
    async def test_an_outcome_refuses_claims_and_is_told(self, store: Store) -> None:
        """An outcome of any kind refuses every claim within its window, its owner's too, which is told that record."""
        for status, data in ((COMPLETED, '{"receipt": 7}'), (FAILED, '["declined"]'), (UNAVAILABLE, "")):
            claim = store.claim(status, payload_hash="9f2c")
            await store.wins(claim)
            outcome = store.outcome(claim, data, status=status)
            await store.completes(outcome)
            for owner in ("owner-2", claim.owner):
                await store.refuses(store.claim(status, owner), outcome)

    @check()
    async def test_a_record_whose_window_is_over_gives_way(self, store: Store) -> None:
        """Once its window is over, an outcome counts as gone, and so does a run whose lease is over too."""
        abandoned = store.claim("abandoned")
        await store.wins(abandoned)
        completed = store.claim("completed", payload_hash="9f2c")
        await store.wins(completed)
        outcome = store.outcome(completed)
        await store.completes(outcome)
        await store.outlive_window(abandoned)
        await store.outlive_window(outcome)
        for name in ("abandoned", "completed"):
            claim = store.claim(name, "owner-2")
            await store.wins(claim)
            await store.stands(claim)

    @check(exact=True)
    async def test_the_last_second_of_a_window_still_counts(self, store: Store) -> None:
        """A window is kept in whole seconds and counts until its last second has passed."""
        claim = store.claim()
        await store.wins(claim)
        outcome = store.outcome(claim)
        await store.completes(outcome)
        window_end = outcome.expiry_timestamp or 0
        await store.advance_to(window_end * 1000 + 999)
        await store.refuses(store.claim(owner="owner-2"), outcome)
        await store.advance_to(window_end * 1000 + 1000)
        await store.wins(store.claim(owner="owner-2"))

    @check("window_spares_leases")
    async def test_a_window_never_cuts_a_running_lease(self, store: Store) -> None:
        """A running record whose window is over still holds its key, and other writes don't sweep it away."""
        running = store.claim(lease=max(6.0, self.lease_seconds))
        running = running.replaced(expiry_timestamp=store.now_ms() // 1000)
        await store.wins(running)
        await store.advance(2.1)
        await store.refuses(store.claim(owner="owner-2"), running)
        await _write_others(store)
        await store.refuses(store.claim(owner="owner-2"), running)

    @check("window_spares_leases", exact=True)
    async def test_the_last_millisecond_of_a_lease_still_counts(self, store: Store) -> None:
        """A lease runs up to and including its last millisecond, to which it is kept."""
        running = store.claim(lease=2.25).replaced(expiry_timestamp=store.now_ms() // 1000)
        await store.wins(running)
        lease_end = running.in_progress_expiry_timestamp or 0
        await store.advance_to(lease_end)
        await store.refuses(store.claim(owner="owner-2"), running)
        await store.advance_to(lease_end + 1)
        await store.wins(store.claim(owner="owner-2"))

    @check("compares_takeovers")
    async def test_a_lapsed_lease_alone_does_not_free_the_key(self, store: Store) -> None:
        """A record whose lease is over, but not its window, refuses every claim that does not name it."""
        claim = store.claim()
        await store.wins(claim)
        await store.outlive_lease(claim)
        await store.refuses(store.claim(owner="owner-2"), claim)

    @check("compares_takeovers")
    async def test_other_writes_sweep_nothing_that_counts(self, store: Store) -> None:
        """Writes under other keys remove neither an outcome within its window nor a run whose lease is over."""
        abandoned = store.claim("abandoned", window=2 * self.window_seconds + 60)
        await store.wins(abandoned)
        claim = store.claim("completed")
        await store.wins(claim)
        await store.outlive_lease(abandoned)
        outcome = store.outcome(claim).replaced(expiry_timestamp=abandoned.expiry_timestamp)
        await store.completes(outcome)
        await _write_others(store)
        await store.stands(abandoned)
        await store.stands(outcome)

    @check()
    async def test_a_peers_record_without_a_lease_is_held_for_its_window(self, store: Store) -> None:
        """A running record without owner and lease, as an older peer writes it, holds its key until its window ends."""
        peers = store.claim(owner=None).replaced(in_progress_expiry_timestamp=None)
        await store.wins(peers)
        await store.refuses(store.claim(owner="owner-2"), peers)
        await store.advance(self.lease_seconds)
        await store.refuses(store.claim(owner="owner-2"), peers)
        await store.outlive_window(peers)
        await store.wins(store.claim(owner="owner-2"))

    @check()
    async def test_the_shortest_lease_and_the_longest_window_read_back_equal(self, store: Store) -> None:
        """A lease of a millisecond and a window of a century are kept as they are."""
        claim = store.claim(lease=0.001, window=CENTURY_SECONDS)
        await store.wins(claim)
        await store.stands(claim)
        outcome = store.outcome(claim).replaced(expiry_timestamp=claim.expiry_timestamp)
        await store.completes(outcome)
        await store.stands(outcome)

    @check()
    async def test_a_record_of_unknown_status_is_never_overwritten(self, store: Store) -> None:
        """A record of unknown status is given back or refused as unreadable, never overwritten, not even once over."""
        unknown = store.claim("unknown status").replaced(status=UNKNOWN_STATUS)
        try:
            await settled(self.plant(store.layer, unknown))
        except IdempotencyInvalidStatusError as error:
            raise TypeError("the layer's _put_record takes no record of unknown status: write plant()") from error
        await _check_left_alone(store, unknown)
        if not self.compares_takeovers:
            return  # it judges by itself what is over, as peers do
        await store.outlive_window(unknown)
        found = await store.do(
            "_get_record",
            unknown.idempotency_key,
            IdempotencyItemNotFoundError,
            IdempotencyPersistenceConsistencyError,
        )
        if not isinstance(found, IdempotencyItemNotFoundError):  # as where the store itself removes what is over
            await _check_left_alone(store, unknown)

    @check()
    async def test_what_is_no_record_is_never_overwritten(self, store: Store) -> None:
        """What cannot be read as a record raises IdempotencyPersistenceConsistencyError, and is never overwritten."""
        claim = store.claim("unreadable")
        await store.plant_unreadable(claim)
        await _check_left_alone(store, None)


async def _write_others(store: Store) -> None:
    for number in range(OTHER_WRITES):
        await store.wins(store.claim(f"other order {number}"))


async def _check_left_alone(store: Store, planted: DataRecord | None) -> None:
    """A claim is refused, before and after which the same is read."""
    claim = store.claim("unreadable") if planted is None else store.claim("unknown status", "owner-2")
    await _check_read(store, claim, planted)
    refusal = await store.do(
        "_put_record", claim, IdempotencyItemAlreadyExistsError, IdempotencyPersistenceConsistencyError
    )
    store.check(isinstance(refusal, Exception), "a claim overwrote it")
    await _check_read(store, claim, planted)


async def _check_read(store: Store, claim: DataRecord, planted: DataRecord | None) -> None:
    found = await store.do("_get_record", claim.idempotency_key, IdempotencyPersistenceConsistencyError)
    if isinstance(found, IdempotencyPersistenceConsistencyError):
        return
    if planted is None:
        raise store.broken(f"_get_record returned {found!r}")
    store.check_equal(found, planted, "the record read")
