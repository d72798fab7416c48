"""Checks of what a store keeps: answers to the character, keys apart, and the same for every layer object on it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final
from unittest import SkipTest

from retrysafe.exceptions import IdempotencyResponseUnavailableError
from retrysafe.persistence.datarecord import UNAVAILABLE
from retrysafe.testing._contract.suite import Suite, check

if TYPE_CHECKING:
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.testing._contract.store import Store

ANSWERS: Final = (
    "null",
    "0",
    "0.0",
    "-0.0",
    "false",
    '""',
    "[]",
    "{}",
    '" "',
    '"null"',
    '{"b": 1, "a": 2.0}',
    '{"a":1}',
    "123456789012345678901234567890",
    "1e400",
    '"quotes \\" and \\\\ and \\n and \\t"',
    '"\\u0000"',
    '"\\ud83d\\ude00"',
    '"é e\u0301 ß 漢字 \U0001f600 \u2028"',
    '"% %s {} {0} $1 :name ? \'; -- #"',
    json.dumps({"lines": [{"item": f"sku-{number}", "price": f"{number}.50"} for number in range(20)]}),
)
"""The texts of answers that stores are known to trip over; the first ones are falsy once they are read."""

LARGE: Final = json.dumps("0123456789" * 30_000)

TOO_LARGE: Final = 5 * 2**20
"""Characters of an answer that is too large for many stores, as DynamoDB, memcached, etcd, Firestore and Cosmos DB."""

LONG_TYPES: Final = json.dumps({"v": 1, "t": ["list", {str(number): "Decimal" for number in range(0, 9_000, 2)}]})
"""Of some 80 kB."""

LONG_OWNER: Final = f"durable:arn:aws:lambda:eu-central-1:123456789012:function:Orders:{'x' * 400}:1"

KEYS: Final = (
    "order",
    "Order",
    "order ",
    " order",
    "order#1",
    "order/1",
    "order:1",
    "order 1",
    "order\\1",
    "order'1",
    'order"1',
    "order%1",
    "order_1",
    "order*",
    "order?",
    "{order}",
    "é",
    "e\u0301",
    "漢字",
    "\U0001f600",
    "k" * 458,
    "k" * 457 + "l",
)
"""Keys that a store might mix up: with its wildcards, by case, by spaces, by Unicode forms, by cutting them off. With
what the suite puts before them, the longest have 500 characters."""


class RecordChecks(Suite):
    """What is stored comes back, under its own key, whoever asks."""

    @check()
    async def test_answers_come_back_to_the_character(self, store: Store) -> None:
        """The text of an answer comes back unchanged, falsy and odd ones too."""
        for number, text in enumerate(ANSWERS):
            claim = store.claim(f"order {number}")
            await store.wins(claim)
            outcome = store.outcome(claim, text)
            await store.completes(outcome)
            await store.stands(outcome)

    @check()
    async def test_a_large_answer_comes_back_whole(self, store: Store) -> None:
        """An answer of 300 kB comes back whole."""
        claim = store.claim()
        await store.wins(claim)
        outcome = store.outcome(claim, LARGE)
        await store.completes(outcome)
        await store.stands(outcome)

    @check("keeps_every_field")
    async def test_an_answer_that_is_too_large_is_refused_as_such(self, store: Store) -> None:
        """An answer of 5 MB comes back whole, or IdempotencyResponseUnavailableError is raised and nothing changes."""
        claim = store.claim()
        await store.wins(claim)
        outcome = store.outcome(claim, json.dumps(os.urandom(TOO_LARGE // 2).hex()))
        refusal = await store.do("_update_record", outcome, IdempotencyResponseUnavailableError)
        if isinstance(refusal, IdempotencyResponseUnavailableError):
            await store.stands(claim)
            outcome = store.outcome(claim, "", status=UNAVAILABLE)
            await store.completes(outcome)
        await store.stands(outcome)

    @check()
    async def test_the_payload_hash_is_kept_through_completion(self, store: Store) -> None:
        """The payload hash that was claimed with still stands beside the outcome, and beside none where none was."""
        for name, payload_hash in (("validated", "9f2c" * 32), ("not validated", "")):
            claim = store.claim(name, payload_hash=payload_hash)
            await store.wins(claim)
            outcome = store.outcome(claim)
            await store.completes(outcome)
            await store.stands(outcome)

    @check("keeps_every_field")
    async def test_types_stand_beside_the_answer(self, store: Store) -> None:
        """What tells the types that JSON lacks is kept beside the answer, to the character and however long."""
        for name, types in (("odd", '[1, "tuple", {"é": ["decimal", "\\u0000"]}]'), ("long", LONG_TYPES)):
            claim = store.claim(name)
            await store.wins(claim)
            outcome = store.outcome(claim, '["1.50"]', types=types)
            await store.completes(outcome)
            await store.stands(outcome)

    @check("fenced", "keeps_every_field")
    async def test_a_long_owner_counts_to_its_end(self, store: Store) -> None:
        """Owners that differ in any character are different ones, long ones too, as that of a durable execution is."""
        claim = store.claim(owner=LONG_OWNER)
        await store.wins(claim)
        await store.stands(claim)
        for other in (LONG_OWNER[:-1], f"{LONG_OWNER[:-1]}2", LONG_OWNER.upper(), f"{LONG_OWNER} "):
            await store.refuses_completion(store.outcome(claim.replaced(owner=other)), claim)
            await store.release(claim.replaced(owner=other))
            await store.stands(claim)
        outcome = store.outcome(claim)
        await store.completes(outcome)
        await store.stands(outcome)

    @check()
    async def test_keys_are_kept_apart(self, store: Store) -> None:
        """Keys that differ in any character are different keys, and a long key counts to its end."""
        claims = [store.claim(name, f"owner-{number}") for number, name in enumerate(KEYS)]
        for claim in claims:
            await store.wins(claim)
        for claim in claims:
            await store.stands(claim)
        for claim in claims[::2]:
            await store.release(claim)
        for number, claim in enumerate(claims):
            if number % 2:
                await store.stands(claim)
            else:
                await store.gone(claim)

    @check()
    async def test_interleaved_calls_of_two_keys_keep_their_own(self, store: Store) -> None:
        """Nothing about a call is kept on the layer: calls of two keys, in turns, each write their own record."""
        first = store.claim("first", "owner-1", payload_hash="1111")
        second = store.claim("second", "owner-2", payload_hash="2222", window=2 * self.window_seconds, attempt=2)
        await store.wins(first)
        await store.wins(second)
        await store.refuses(store.claim("first", "owner-3", payload_hash="3333"), first)
        first_outcome = store.outcome(first, '"first"')
        await store.completes(first_outcome)
        await store.stands(second)
        second_outcome = store.outcome(second, '"second"')
        await store.completes(second_outcome)
        await store.stands(first_outcome)
        await store.stands(second_outcome)

    @check()
    async def test_every_layer_object_on_a_store_sees_the_same(self, store: Store) -> None:
        """What one layer object writes, another in another thread or task reads, refuses, completes and releases."""
        other = await store.second()
        claim, released = store.claim(payload_hash="9f2c"), store.claim("released")
        await store.wins(released)
        await store.wins(claim)
        await store.refuses(store.claim(owner="owner-2"), claim)
        await store.stands(released)

        async def elsewhere() -> DataRecord:
            await other.refuses(other.claim(owner="owner-2"), claim)
            outcome = other.outcome(claim, '"ä"')
            await other.completes(outcome)
            await other.refuses(other.claim(owner="owner-2"), outcome)
            await other.release(released)
            return outcome

        [outcome] = await store.together(elsewhere)
        await store.gone(released)
        await store.refuses(store.claim(owner="owner-2"), outcome)

    @check()
    async def test_a_peek_tells_nothing_else_than_a_read(self, store: Store) -> None:
        """What a layer tells without I/O, where it does, is the record that stands; else it tells None."""
        if not getattr(store.layer, "can_peek", False):
            raise SkipTest(f"{type(store.layer).__name__} has no _peek_record()")
        other = await store.second()
        claim = store.claim(payload_hash="9f2c")
        store.check_peek(claim, None)
        await store.wins(claim)
        store.check_peek(claim, claim)
        outcome = other.outcome(claim)
        await other.completes(outcome)
        store.check_peek(claim, outcome)
        released = store.claim("released")
        await store.wins(released)
        await other.release(released)
        store.check_peek(released, None)
