"""Checks of `_update_record`, `_delete_record` and `_renew_record`: the owner's writes, and nobody else's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrysafe.persistence.datarecord import COMPLETED, FAILED, UNAVAILABLE
from retrysafe.testing._contract.suite import Suite, check

if TYPE_CHECKING:
    from retrysafe.testing._contract.store import Store


class CompletionChecks(Suite):
    """An outcome is stored if the owner is still the record's."""

    @check()
    async def test_the_owner_completes_its_record(self, store: Store) -> None:
        """Its owner stores an outcome of any kind, and it reads back equal."""
        for status, data in ((COMPLETED, '{"receipt": 7}'), (FAILED, '["declined"]'), (UNAVAILABLE, "")):
            claim = store.claim(status, payload_hash="9f2c", attempt=2)
            await store.wins(claim)
            outcome = store.outcome(claim, data, status=status)
            await store.completes(outcome)
            await store.stands(outcome)

    @check()
    async def test_completing_twice_is_harmless(self, store: Store) -> None:
        """The owner may store the same outcome again, as it does when a reply was lost."""
        claim = store.claim()
        await store.wins(claim)
        outcome = store.outcome(claim)
        await store.completes(outcome)
        await store.completes(outcome)
        await store.stands(outcome)

    @check()
    async def test_an_owner_completes_after_its_lease_while_nobody_took_over(self, store: Store) -> None:
        """A lease that is over does not keep the owner from storing the outcome, as long as nobody took over."""
        claim = store.claim()
        await store.wins(claim)
        await store.outlive_lease(claim)
        outcome = store.outcome(claim)
        await store.completes(outcome)
        await store.stands(outcome)

    @check("fenced")
    async def test_a_late_owner_cannot_complete(self, store: Store) -> None:
        """An owner whose record was taken over gets IdempotencyLeaseLostError, and changes nothing."""
        late, current = await store.overtaken()
        await store.refuses_completion(store.outcome(late, '"late"'), current)
        outcome = store.outcome(current)
        await store.completes(outcome)
        await store.refuses_completion(store.outcome(late, '"late"'), outcome)

    @check("fenced")
    async def test_completing_does_not_create_a_record_that_is_gone(self, store: Store) -> None:
        """A record that was released or removed is not created anew by a late outcome."""
        claim = store.claim()
        await store.refuses_completion(store.outcome(claim), None)
        await store.wins(claim)
        await store.release(claim)
        await store.refuses_completion(store.outcome(claim), None)

    @check("fenced")
    async def test_a_record_without_owner_is_nobodys_to_complete_or_release(self, store: Store) -> None:
        """A peer's record, which has no owner, is neither completed nor released by anybody, with or without owner."""
        peers = store.claim(owner=None)
        await store.wins(peers)
        for owner in (None, "owner-1", ""):
            written = peers.replaced(owner=owner)
            await store.refuses_completion(store.outcome(written), peers)
            await store.release(written)
            await store.stands(peers)


class ReleaseChecks(Suite):
    """A running record is removed if the owner is still the record's; else it is left, without a word."""

    @check()
    async def test_the_owner_releases_its_record(self, store: Store) -> None:
        """Its owner removes a running record, and the key is free at once."""
        claim = store.claim()
        await store.wins(claim)
        await store.release(claim)
        await store.gone(claim)
        await store.wins(store.claim(owner="owner-2"))

    @check("fenced")
    async def test_a_late_owner_cannot_release(self, store: Store) -> None:
        """An owner whose record was taken over leaves the new owner's record as it is."""
        late, current = await store.overtaken()
        await store.release(late)
        await store.stands(current)

    @check("fenced")
    async def test_an_outcome_is_not_released(self, store: Store) -> None:
        """Not even its own owner removes an outcome, of whatever kind."""
        for status in (COMPLETED, FAILED, UNAVAILABLE):
            claim = store.claim(status)
            await store.wins(claim)
            outcome = store.outcome(claim, status=status)
            await store.completes(outcome)
            await store.release(claim)
            await store.stands(outcome)

    @check()
    async def test_releasing_an_unknown_key_is_silent(self, store: Store) -> None:
        """Releasing a key without a record does nothing and raises nothing; so does releasing twice."""
        claim = store.claim()
        await store.release(claim)
        await store.wins(claim)
        await store.release(claim)
        await store.release(claim)
        await store.gone(claim)


class RenewalChecks(Suite):
    """Lease and window of a running record are moved if the owner is still the record's."""

    @check("renews")
    async def test_a_renewal_moves_lease_and_window_and_nothing_else(self, store: Store) -> None:
        """The owner moves lease and window on, also after the lease's end; payload hash and attempt stay."""
        claim = store.claim(payload_hash="9f2c", attempt=3)
        await store.wins(claim)
        await store.advance(self.lease_seconds / 2)
        renewal = store.renewal(claim, lease=2 * self.lease_seconds, window=2 * self.window_seconds)
        await store.renews(renewal)
        await store.stands(renewal)
        await store.outlive_lease(renewal)
        again = store.renewal(claim)
        await store.renews(again)
        await store.stands(again)

    @check("renews")
    async def test_a_late_owner_cannot_renew(self, store: Store) -> None:
        """An owner whose record was taken over gets IdempotencyLeaseLostError, and changes nothing."""
        late, current = await store.overtaken()
        await store.refuses_renewal(store.renewal(late), current)

    @check("renews")
    async def test_an_outcome_cannot_be_renewed(self, store: Store) -> None:
        """A renewal that comes after the outcome gets IdempotencyLeaseLostError, and changes nothing."""
        claim = store.claim()
        await store.wins(claim)
        outcome = store.outcome(claim)
        await store.completes(outcome)
        await store.refuses_renewal(store.renewal(claim), outcome)

    @check("renews")
    async def test_renewing_does_not_create_a_record_that_is_gone(self, store: Store) -> None:
        """A renewal of a key without a record gets IdempotencyLeaseLostError, and creates none."""
        claim = store.claim()
        await store.refuses_renewal(store.renewal(claim), None)
        await store.wins(claim)
        await store.release(claim)
        await store.refuses_renewal(store.renewal(claim), None)

    @check("renews")
    async def test_a_record_without_owner_is_nobodys_to_renew(self, store: Store) -> None:
        """A peer's record, which has no owner, is renewed by nobody, with or without owner."""
        peers = store.claim(owner=None)
        await store.wins(peers)
        for owner in (None, "owner-1", ""):
            await store.refuses_renewal(store.renewal(peers.replaced(owner=owner), lease=600, window=9999), peers)
