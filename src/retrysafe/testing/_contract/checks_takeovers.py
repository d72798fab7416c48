"""Checks of claims that take over: one wins only while exactly the record that it names still stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrysafe.persistence.datarecord import COMPLETED
from retrysafe.testing._contract.suite import Suite, check

if TYPE_CHECKING:
    from retrysafe.testing._contract.store import Store


class TakeoverChecks(Suite):
    """A claim with `replaces` is one atomic comparison with the record seen."""

    @check()
    async def test_a_claim_that_names_a_lapsed_record_takes_it_over(self, store: Store) -> None:
        """A claim takes over the record it names when that record's lease is over, and reads back equal."""
        late, current = await store.overtaken()
        await store.stands(current)
        await store.refuses(store.claim(owner="owner-3"), current)
        await store.outlive_lease(current)
        third = store.takeover(await store.stands(current), late.owner)
        await store.wins(third)
        await store.stands(third)

    @check("compares_takeovers")
    async def test_a_claim_may_name_a_record_whose_lease_runs(self, store: Store) -> None:
        """The layer compares and does not judge: a claim also replaces the record it names while its lease runs."""
        claim = store.claim()
        await store.wins(claim)
        anew = store.takeover(await store.stands(claim), claim.owner)
        await store.wins(anew)
        await store.stands(anew)

    @check("compares_takeovers")
    async def test_a_takeover_compares_each_mark_of_the_claim(self, store: Store) -> None:
        """A takeover is refused if owner, attempt, lease or status of the standing record differ from what it saw."""
        claim = store.claim(attempt=2)
        await store.wins(claim)
        await store.outlive_lease(claim)
        seen = await store.stands(claim)
        lease_end = seen.in_progress_expiry_timestamp or 0
        for changes in (
            {"owner": "owner-9"},
            {"owner": None},
            {"attempt": 1},
            {"in_progress_expiry_timestamp": lease_end + 1},
            {"in_progress_expiry_timestamp": None},
            {"status": COMPLETED},
        ):
            await store.refuses(store.takeover(seen.replaced(**changes)), claim)
        await store.wins(store.takeover(seen))

    @check("compares_takeovers")
    async def test_only_the_first_takeover_of_a_record_wins(self, store: Store) -> None:
        """A takeover is refused once another has taken over the record that it names."""
        claim = store.claim()
        await store.wins(claim)
        await store.outlive_lease(claim)
        seen = await store.stands(claim)
        first = store.takeover(seen)
        await store.wins(first)
        await store.refuses(store.takeover(seen, "owner-3"), first)

    @check("compares_takeovers", "renews")
    async def test_a_takeover_is_refused_once_the_owner_renewed(self, store: Store) -> None:
        """A takeover is refused once the owner has moved the lease on."""
        claim = store.claim()
        await store.wins(claim)
        await store.outlive_lease(claim)
        seen = await store.stands(claim)
        renewal = store.renewal(claim)
        await store.renews(renewal)
        await store.refuses(store.takeover(seen), renewal)

    @check("compares_takeovers")
    async def test_a_takeover_is_refused_once_the_owner_completed(self, store: Store) -> None:
        """A takeover is refused once the owner has stored the outcome, which it is told."""
        claim = store.claim()
        await store.wins(claim)
        await store.outlive_lease(claim)
        seen = await store.stands(claim)
        outcome = store.outcome(claim)
        await store.completes(outcome)
        await store.refuses(store.takeover(seen), outcome)

    @check("compares_takeovers")
    async def test_a_takeover_of_a_released_record_is_a_plain_claim(self, store: Store) -> None:
        """Once the owner has released the key, a takeover wins the free key, and loses to whoever claimed it since."""
        claim = store.claim()
        await store.wins(claim)
        await store.outlive_lease(claim)
        seen = await store.stands(claim)
        await store.release(claim)
        first = store.takeover(seen)
        await store.wins(first)
        await store.refuses(store.takeover(seen, "owner-3"), first)

    @check("compares_takeovers")
    async def test_a_peers_record_can_be_taken_over(self, store: Store) -> None:
        """A record without owner, as a peer writes it, is taken over by a claim that names it, once."""
        peers = store.claim(owner=None)
        await store.wins(peers)
        await store.outlive_lease(peers)
        seen = await store.stands(peers)
        first = store.takeover(seen)
        await store.wins(first)
        await store.refuses(store.takeover(seen, "owner-3"), first)
