"""Checks of many records at once: each has its own outcome, whatever becomes of the others beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConsistencyError,
)
from retrysafe.persistence.datarecord import DataRecord
from retrysafe.testing._contract.driving import settled
from retrysafe.testing._contract.suite import Suite, check

if TYPE_CHECKING:
    from retrysafe.persistence.many import Operation
    from retrysafe.testing._contract.store import Store

MANY: Final = 12
"""More than two, so that the middle is not an end; each third or second record is another case."""


class ManyChecks(Suite):
    """`_for_each` gives for each record what the method for one would."""

    @check()
    async def test_of_many_claims_each_is_won_or_refused_by_itself(self, store: Store) -> None:
        """Of many claims at once, those of free keys win, and each other one is told the record that stands."""
        held = {number: store.claim(f"order {number}", "holder") for number in range(0, MANY, 3)}
        for claim in held.values():
            await store.wins(claim)
        claims = [store.claim(f"order {number}", f"owner-{number}") for number in range(MANY)]
        outcomes = await _each(store, "put", claims)
        for number, outcome in enumerate(outcomes):
            if number not in held:
                store.check(outcome is None, f"the claim of a free key came to {outcome!r}")
                await store.stands(claims[number])
                continue
            refused = isinstance(outcome, IdempotencyItemAlreadyExistsError)
            store.check(refused, f"the claim of a key that is held came to {outcome!r}")
            if self.tells_rivals:
                _check_told(store, outcome.old_data_record, held[number], "the record that the refusal carries")
            await store.stands(held[number])

    @check("compares_takeovers")
    async def test_of_many_takeovers_each_compares_what_it_saw(self, store: Store) -> None:
        """Of many takeovers at once, those win whose record still stands as it was seen, and no other."""
        claims = [store.claim(f"order {number}") for number in range(MANY)]
        for claim in claims:
            await store.wins(claim)
        await store.outlive_lease(claims[-1])
        takeovers = [store.takeover(await store.stands(claim)) for claim in claims]
        late = {number: store.outcome(claims[number]) for number in range(1, MANY, 3)}
        for outcome in late.values():
            await store.completes(outcome)
        outcomes = await _each(store, "put", takeovers)
        for number, outcome in enumerate(outcomes):
            if number in late:
                refused = isinstance(outcome, IdempotencyItemAlreadyExistsError)
                store.check(refused, f"taking over what has completed meanwhile came to {outcome!r}")
            else:
                store.check(outcome is None, f"a takeover came to {outcome!r}")
            await store.stands(late.get(number, takeovers[number]))

    @check("fenced")
    async def test_of_many_outcomes_each_is_stored_for_its_owner_alone(self, store: Store) -> None:
        """Of many outcomes at once, each owner's is stored; one of an owner that has lost its record is refused."""
        claims = [store.claim(f"order {number}", payload_hash="9f2c" if number % 2 else "") for number in range(MANY)]
        for claim in claims[:-1]:
            await store.wins(claim)
        outcomes = [store.outcome(claim, f'"paid {number}"') for number, claim in enumerate(claims)]
        strangers = {number: outcomes[number].replaced(owner="stranger") for number in range(1, MANY - 1, 3)}
        written = [strangers.get(number, outcome) for number, outcome in enumerate(outcomes)]
        told = await _each(store, "update", written)
        for number, refusal in enumerate(told):
            if number in strangers or number == MANY - 1:
                lost = isinstance(refusal, IdempotencyLeaseLostError)
                store.check(lost, f"completing what is another owner's, or nobody's, came to {refusal!r}")
            else:
                store.check(refusal is None, f"completing came to {refusal!r}")
                await store.stands(outcomes[number])
        for number in strangers:
            await store.stands(claims[number])
        await store.gone(claims[-1])

    @check("fenced")
    async def test_of_many_releases_each_removes_its_own(self, store: Store) -> None:
        """Of many releases at once, each removes the claim of its owner, and no other's, and no outcome."""
        claims = [store.claim(f"order {number}") for number in range(MANY)]
        for claim in claims:
            await store.wins(claim)
        done = store.outcome(claims[0])
        await store.completes(done)
        released = [claim if number % 3 else claim.replaced(owner="stranger") for number, claim in enumerate(claims)]
        released[0] = claims[0]
        for refusal in await _each(store, "delete", released):
            store.check(refusal is None, f"a release came to {refusal!r}")
        await store.stands(done)
        for number, claim in enumerate(claims[1:], 1):
            await (store.gone(claim) if number % 3 else store.stands(claim))

    @check("renews", "fenced")
    async def test_of_many_leases_each_is_renewed_for_its_owner_alone(self, store: Store) -> None:
        """Of many renewals at once, each owner's moves its lease on; those of others, and of outcomes, are refused."""
        claims = [store.claim(f"order {number}") for number in range(MANY)]
        for claim in claims[:-1]:
            await store.wins(claim)
        done = store.outcome(claims[1])
        await store.completes(done)
        longer = [store.renewal(claim, lease=2 * self.lease_seconds) for claim in claims]
        written = [each if number % 3 else each.replaced(owner="stranger") for number, each in enumerate(longer)]
        told = await _each(store, "renew", written)
        for number, refusal in enumerate(told):
            if number % 3 and number not in (1, MANY - 1):
                store.check(refusal is None, f"renewing came to {refusal!r}")
                await store.stands(longer[number])
            else:
                lost = isinstance(refusal, IdempotencyLeaseLostError)
                store.check(lost, f"renewing an outcome, or what is another owner's or nobody's, came to {refusal!r}")
        await store.stands(done)

    @check()
    async def test_many_looks_find_each_its_own_record(self, store: Store) -> None:
        """Many records that are read at once are each the one under its key; for a key without one that is said."""
        claims = [store.claim(f"order {number}", f"owner-{number}") for number in range(MANY)]
        for claim in claims[::2]:
            await store.wins(claim)
        found = await _each(store, "get", [claim.idempotency_key for claim in claims])
        for number, record in enumerate(found):
            if number % 2:
                missing = isinstance(record, IdempotencyItemNotFoundError)
                store.check(missing, f"reading a key without a record came to {record!r}")
            else:
                _check_told(store, record, claims[number], "the record that was read among others")

    @check()
    async def test_one_of_many_rivals_claims_each_of_many_keys(self, store: Store) -> None:
        """Of rivals that claim the same many keys at once, exactly one wins each key."""

        def rival(claims: list[DataRecord]) -> Any:
            async def claim_all() -> list[Any]:
                return await _each(store, "put", claims)

            return claim_all

        for part in range(self.rounds):
            names = [f"order {part} {number}" for number in range(MANY)]
            owners = [f"owner-{number}" for number in range(min(self.rivals, 8))]
            all_told = await store.together(*(rival([store.claim(name, owner) for name in names]) for owner in owners))
            for outcomes in zip(*all_told, strict=True):
                winners = sum(outcome is None for outcome in outcomes)
                store.check(winners == 1, f"{winners} rivals won the same key")

    @check()
    async def test_what_is_no_record_among_many_says_nothing_about_the_others(self, store: Store) -> None:
        """What cannot be read refuses its own claim, with IdempotencyPersistenceConsistencyError, and no other."""
        claims = [store.claim(f"order {number}") for number in range(MANY)]
        await store.plant_unreadable(claims[1])
        for number, outcome in enumerate(await _each(store, "put", claims)):
            if number == 1:
                unread = isinstance(outcome, IdempotencyPersistenceConsistencyError)
                store.check(unread, f"claiming what cannot be read came to {outcome!r}")
            else:
                store.check(outcome is None, f"the claim of a free key came to {outcome!r}")
                await store.stands(claims[number])


async def _each(store: Store, operation: Operation, arguments: list[Any]) -> list[Any]:
    try:
        outcomes: list[Any] = await settled(store.layer._for_each(operation, arguments))
    except Exception as error:
        raise store.broken(f"_for_each({operation!r}, ...) raised {error!r}") from error
    told = len(outcomes) == len(arguments)
    store.check(told, f"_for_each gave {len(outcomes)} outcomes for {len(arguments)} records")
    return outcomes


def _check_told(store: Store, told: Any, standing: DataRecord, what: str) -> None:
    store.check(isinstance(told, DataRecord), f"{what} is {told!r}")
    store.check_equal(told, standing, what)
