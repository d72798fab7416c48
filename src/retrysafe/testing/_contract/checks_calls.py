"""Checks of whole calls: real idempotent functions on the layer, with what may go wrong around them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from retrysafe.exceptions import (
    IdempotencyAbandonedError,
    IdempotencyAlreadyInProgressError,
    IdempotencyLeaseLostError,
    IdempotencyValidationError,
)
from retrysafe.testing._contract.functions import DeclinedError, dying, failing, protected, raised
from retrysafe.testing._contract.suite import Suite, check

if TYPE_CHECKING:
    from retrysafe.testing._contract.store import Store

FALSY: tuple[Any, ...] = (None, 0, 0.0, False, "", [], {})
FALSY_WITH_TYPES: tuple[Any, ...] = ((), b"", set[Any](), frozenset[Any]())
WAITERS = 8
WAIT_SECONDS = 5.0


class CallChecks(Suite):
    """The promises that users see hold on this layer."""

    @check()
    async def test_a_duplicate_gets_the_first_answer_and_nothing_runs_twice(self, store: Store) -> None:
        """A first call runs; a duplicate gets its answer and runs nothing; another payload runs again."""
        runs: list[Any] = []

        async def charge(order: Any) -> Any:
            runs.append(order)
            return {"receipt": len(runs), "note": "bezahlt für 漢字"}

        charge_once = protected(store, charge)
        answers = [await charge_once({"id": 1}), await charge_once({"id": 1}), await charge_once({"id": 2})]
        store.check(answers[1] == answers[0], f"the duplicate got {answers[1]!r} instead of {answers[0]!r}")
        store.check(runs == [{"id": 1}, {"id": 2}], f"the function ran for {runs!r}")

    @check("tells_rivals")
    async def test_a_first_call_takes_two_steps_and_a_replay_one(self, store: Store) -> None:
        """A first call asks the layer twice, to claim and to complete; a replay once."""
        layer = failing(store)

        async def charge(order: Any) -> Any:
            return order

        charge_once = protected(store, charge, layer)
        for what, expected in (("first call", 2), ("replay", 1)):
            before = sum(layer.calls.values())
            await charge_once({"id": 1})
            steps = sum(layer.calls.values()) - before
            store.check(steps == expected, f"a {what} took {steps} steps: {layer.calls!r}")

    @check()
    async def test_falsy_answers_replay_equal(self, store: Store) -> None:
        """None, 0, "" and the like are answers: a duplicate gets them equal and of the same type."""
        runs: list[Any] = []
        answers = [*FALSY, *(FALSY_WITH_TYPES if self.keeps_every_field else ())]

        async def look_up(number: Any) -> Any:
            runs.append(number)
            return answers[number]

        look_up_once = protected(store, look_up)
        for number, answer in enumerate(answers):
            for what in ("first call", "duplicate"):
                got = await look_up_once(number)
                same = type(got) is type(answer) and got == answer
                store.check(same, f"a {what} got {got!r} instead of {answer!r}")
        store.check(len(runs) == len(answers), "a function with a falsy answer ran again")

    @check()
    async def test_an_exception_frees_the_key(self, store: Store) -> None:
        """The caller gets the function's own exception, and the next call runs."""
        runs: list[Any] = []

        async def charge(order: Any) -> Any:
            runs.append(order)
            if len(runs) == 1:
                raise DeclinedError("declined")
            return "paid"

        charge_once = protected(store, charge)
        error = await raised(charge_once({"id": 1}))
        store.check(isinstance(error, DeclinedError), f"the caller got {error!r} instead of the function's exception")
        answer = await charge_once({"id": 1})
        store.check(answer == "paid", f"the retry got {answer!r}")

    @check()
    async def test_a_stored_failure_is_raised_again(self, store: Store) -> None:
        """An exception named in replay_exceptions is an answer: a duplicate gets it, and nothing runs."""
        runs: list[Any] = []

        async def charge(order: Any) -> Any:
            runs.append(order)
            raise DeclinedError("declined", 7)

        charge_once = protected(store, charge, replay_exceptions=[DeclinedError])
        for what in ("first call", "duplicate"):
            error = await raised(charge_once({"id": 1}))
            same = isinstance(error, DeclinedError) and error.args == ("declined", 7)
            store.check(same, f"the {what} got {error!r}")
        store.check(len(runs) == 1, f"the function ran {len(runs)} times")

    @check("fenced")
    async def test_a_late_owner_is_told_and_keeps_its_response(self, store: Store) -> None:
        """A run that outlives its lease gets IdempotencyLeaseLostError with its response; the new owner's stands."""
        layer = failing(store)
        layer.fail("renew")  # the heartbeat does not get through
        runs: list[Any] = []

        async def charge(order: Any) -> Any:
            runs.append(order)
            if len(runs) == 1:
                await store.advance(self.lease_seconds + 0.05)
                await charge_once(order)
                return "first"
            return "second"

        charge_once = protected(store, charge, layer)
        error = await raised(charge_once({"id": 1}))
        if not isinstance(error, IdempotencyLeaseLostError):
            raise store.broken(f"the late owner got {error!r}")
        store.check(error.response == "first", f"the late owner's response is {error.response!r}")
        answer = await charge_once({"id": 1})
        store.check(answer == "second", f"a duplicate got {answer!r} instead of the new owner's answer")
        store.check(len(runs) == 2, f"the function ran {len(runs)} times")  # noqa: PLR2004  # one for each owner

    @check()
    async def test_an_abandoned_run_is_taken_over(self, store: Store) -> None:
        """A run that died holds its key until its lease is over; then the next call runs."""
        charge, runs = dying(store)
        await charge({"id": 1})
        error = await raised(charge({"id": 1}))
        in_progress = isinstance(error, IdempotencyAlreadyInProgressError)
        store.check(in_progress, f"a duplicate within the lease got {error!r}")
        await store.advance(self.lease_seconds + 0.05)
        answer = await charge({"id": 1})
        store.check(answer == "paid", f"a call after the lease got {answer!r}")
        store.check(len(runs) == 2, f"the function ran {len(runs)} times")  # noqa: PLR2004  # one died

    @check("compares_takeovers")
    async def test_an_abandoned_run_stays_where_a_person_decides(self, store: Store) -> None:
        """With on_abandoned="raise", who meets a run that died gets IdempotencyAbandonedError, and runs nothing."""
        charge, runs = dying(store, on_abandoned="raise")
        await charge({"id": 1})
        await store.advance(self.lease_seconds + 0.05)
        for _ in range(2):
            error = await raised(charge({"id": 1}))
            store.check(isinstance(error, IdempotencyAbandonedError), f"the call got {error!r}")
        store.check(len(runs) == 1, f"the function ran {len(runs)} times")

    @check()
    async def test_waiting_duplicates_get_the_answer(self, store: Store) -> None:
        """With on_in_progress="wait", simultaneous duplicates all get the answer of the one that runs."""
        layer = failing(store)
        runs: list[Any] = []

        async def charge(order: Any) -> Any:
            runs.append(order)
            give_up = time.monotonic() + WAIT_SECONDS / 2
            while layer.calls["put"] < WAITERS and time.monotonic() < give_up:
                await store.breathe()  # until all duplicates have met the claim
            return {"receipt": len(runs)}

        charge_once = protected(store, charge, layer, on_in_progress="wait", wait_timeout_seconds=WAIT_SECONDS)
        answers = await store.together(*(lambda: charge_once({"id": 1}) for _ in range(WAITERS)))
        store.check(answers == [{"receipt": 1}] * WAITERS, f"the callers got {answers!r}")
        store.check(len(runs) == 1, f"the function ran {len(runs)} times")

    @check()
    async def test_another_payload_under_the_same_key_is_refused(self, store: Store) -> None:
        """With payload validation, a duplicate with another payload is refused, and one with the same is replayed."""
        runs: list[Any] = []

        async def charge(order: Any) -> Any:
            runs.append(order)
            return "paid"

        charge_once = protected(store, charge, event_key_jmespath="id", payload_validation_jmespath="amount")
        await charge_once({"id": 1, "amount": 10})
        for _ in range(2):
            error = await raised(charge_once({"id": 1, "amount": 1000}))
            store.check(isinstance(error, IdempotencyValidationError), f"another payload got {error!r}")
            answer = await charge_once({"id": 1, "amount": 10})
            store.check(answer == "paid", f"the same payload got {answer!r}")
        store.check(len(runs) == 1, f"the function ran {len(runs)} times")

    @check()
    async def test_functions_with_different_configs_share_a_layer(self, store: Store) -> None:
        """Two functions on one layer, one calling the other, each keep their own rules, keys and answers."""
        booked: list[Any] = []
        charged: list[Any] = []

        async def book(order: Any) -> Any:
            booked.append(order)
            return {"booking": len(booked)}

        async def charge(order: Any) -> Any:
            charged.append(order)
            return {"receipt": len(charged), **await book_once({"id": order["id"], "amount": 5 * len(charged)})}

        book_once = protected(store, book, event_key_jmespath="id")
        charge_once = protected(
            store,
            charge,
            event_key_jmespath="id",
            payload_validation_jmespath="amount",
            expires_after_seconds=2 * self.window_seconds + 5,
        )
        first = await charge_once({"id": 1, "amount": 10})
        store.check(first == {"receipt": 1, "booking": 1}, f"the first call got {first!r}")
        replay = await charge_once({"id": 1, "amount": 10})
        store.check(replay == first, f"the duplicate got {replay!r} instead of {first!r}")
        error = await raised(charge_once({"id": 1, "amount": 11}))
        store.check(isinstance(error, IdempotencyValidationError), f"the function that validates gave {error!r}")
        booking = await book_once({"id": 1, "amount": 11})
        store.check(booking == {"booking": 1}, f"the function that does not validate gave {booking!r}")
        await store.advance(self.window_seconds + 2.05)
        await book_once({"id": 1})
        replay = await charge_once({"id": 1, "amount": 10})
        store.check(replay == first, f"within its own, longer window the duplicate got {replay!r}")
        store.check(len(booked) == 2, "the function with the shorter window did not run again")  # noqa: PLR2004  # again

    @check("fenced", "keeps_every_field")
    async def test_lost_replies_cost_no_second_run(self, store: Store) -> None:
        """A call whose claim or outcome got through, though the reply was lost, knows them as its own."""
        layer = failing(store)
        layer.fail("put", call=1, applied=True)
        layer.fail("update", call=1, applied=True)
        runs: list[Any] = []

        async def charge(order: Any) -> Any:
            runs.append(order)
            return {"receipt": len(runs)}

        charge_once = protected(store, charge, layer)
        for what in ("call", "duplicate"):
            answer = await charge_once({"id": 1})
            store.check(answer == {"receipt": 1}, f"the {what} got {answer!r}")
        store.check(len(runs) == 1, f"the function ran {len(runs)} times")
