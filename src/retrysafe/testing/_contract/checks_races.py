"""Checks of rivals at the same moment, in threads or in tasks: of any number exactly one wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from retrysafe.testing._contract.suite import Suite, check

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.testing._contract.store import Store

    T = TypeVar("T")
    Rival: TypeAlias = Callable[[], Coroutine[Any, Any, T]]
    Attempt: TypeAlias = tuple[DataRecord, DataRecord | None]


class RaceChecks(Suite):
    """Each method is one atomic step of the store."""

    @check()
    async def test_one_of_many_rivals_claims_a_free_key(self, store: Store) -> None:
        """Of many simultaneous claims of a free key exactly one wins, and all others are told the winner."""
        for number in range(self.rounds):
            await self._one_wins(store, _claiming(f"order {number}"))

    @check()
    async def test_one_of_many_rivals_claims_a_key_whose_window_is_over(self, store: Store) -> None:
        """Of many simultaneous claims of a key whose window is over exactly one wins."""
        outcomes: list[DataRecord] = []
        for number in range(self.rounds):
            claim = store.claim(f"order {number}")
            await store.wins(claim)
            outcomes.append(store.outcome(claim))
            await store.completes(outcomes[-1])
        await store.outlive_window(outcomes[-1])
        for number, outcome in enumerate(outcomes):
            await self._one_wins(store, _claiming(f"order {number}"), before=outcome)

    @check()
    async def test_one_of_many_rivals_takes_over(self, store: Store) -> None:
        """Of many simultaneous takeovers of one record exactly one wins."""
        claims = [store.claim(f"order {number}") for number in range(self.rounds)]
        for claim in claims:
            await store.wins(claim)
        await store.outlive_lease(claims[-1])
        for claim in claims:
            seen = await store.stands(claim)
            await self._one_wins(store, _taking_over(seen), before=seen)

    @check("fenced", "compares_takeovers", "compares_in_one_step")
    async def test_a_completion_and_a_takeover_never_both_win(self, store: Store) -> None:
        """When an owner completes while others take over, exactly one of them succeeds."""
        await self._one_succeeds(store, "completion", lambda claim: _succeeds(store.complete, store.outcome(claim)))

    @check("fenced", "compares_takeovers", "compares_in_one_step", "renews")
    async def test_a_renewal_and_a_takeover_never_both_win(self, store: Store) -> None:
        """When an owner renews while others take over, exactly one of them succeeds."""
        await self._one_succeeds(store, "renewal", lambda claim: _succeeds(store.renew, store.renewal(claim)))

    @check("fenced", "compares_takeovers", "compares_in_one_step")
    async def test_a_release_removes_no_takeover(self, store: Store) -> None:
        """When an owner releases while others take over, exactly one of these succeeds, and its record stands."""
        for claim, seen, place in await self._lapsed(store):
            takeovers = [store.takeover(seen, f"rival-{rival}") for rival in range(3)]
            rivals = [_succeeds(store.put, takeover) for takeover in takeovers]
            rivals.insert(place, _succeeds(store.release, claim))
            told = await store.together(*rivals)
            del told[place]
            store.check(told.count(True) == 1, f"{told.count(True)} of three takeovers beside a release succeeded")
            await store.stands(takeovers[told.index(True)])

    @check()
    async def test_rivals_of_different_keys_do_not_hinder_each_other(self, store: Store) -> None:
        """Any number of calls of different keys, at the same time, each claim, complete and read their own."""

        def call(number: int) -> Rival[None]:
            async def one() -> None:
                claim = store.claim(f"order {number}", f"owner-{number}", payload_hash=f"{number:04}")
                await store.wins(claim)
                await store.stands(claim)
                outcome = store.outcome(claim, str(number))
                await store.completes(outcome)
                await store.stands(outcome)

            return one

        await store.together(*(call(number) for number in range(self.rivals)))

    async def _lapsed(self, store: Store) -> list[tuple[DataRecord, DataRecord, int]]:
        """Claims whose lease is over, each with what is read of it, and where its owner stands among three rivals."""
        claims = [store.claim(f"order {number}") for number in range(2 * self.rounds)]
        for claim in claims:
            await store.wins(claim)
        await store.outlive_lease(claims[-1])
        return [(claim, await store.stands(claim), number % 4) for number, claim in enumerate(claims)]

    async def _one_succeeds(self, store: Store, what: str, owners: Callable[[DataRecord], Rival[bool]]) -> None:
        """Let the owner of a lapsed record write while three others take over."""
        for claim, seen, place in await self._lapsed(store):
            rivals = [_succeeds(store.put, store.takeover(seen, f"rival-{rival}")) for rival in range(3)]
            rivals.insert(place, owners(claim))
            winners = (await store.together(*rivals)).count(True)
            store.check(winners == 1, f"{winners} of one {what} and three takeovers succeeded")

    async def _one_wins(
        self, store: Store, make: Callable[[Store, str], DataRecord], *, before: DataRecord | None = None
    ) -> None:
        """Let rivals on two layer objects claim at the same moment; losers are told the winner.

        Where looking and writing are two steps, they may be told what stood before.
        """
        also_told = None if self.compares_in_one_step or before is None else before.owner
        layers = (store, await store.second())

        def rival(number: int) -> Rival[Attempt]:
            async def claim() -> Attempt:
                at = layers[number % 2]
                record = make(at, f"rival-{number}")
                return record, await at.put(record)

            return claim

        attempts = await store.together(*(rival(number) for number in range(self.rivals)))
        winners = [record for record, standing in attempts if standing is None]
        store.check(len(winners) == 1, f"{len(winners)} of {self.rivals} simultaneous claims won")
        for _, standing in attempts:
            if standing is not None and (also_told is None or standing.owner != also_told):
                store.check_equal(standing, winners[0], "the record that a loser was told")
        await store.stands(winners[0])


def _claiming(name: str) -> Callable[[Store, str], DataRecord]:
    return lambda at, owner: at.claim(name, owner)


def _taking_over(seen: DataRecord) -> Callable[[Store, str], DataRecord]:
    return lambda at, owner: at.takeover(seen, owner)


def _succeeds(step: Callable[[DataRecord], Coroutine[Any, Any, object]], record: DataRecord) -> Rival[bool]:
    async def one() -> bool:
        return await step(record) is None

    return one
