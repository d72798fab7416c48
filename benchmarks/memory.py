"""In memory: what a first call and a replay cost beside Powertools, where no store's own time hides it.

Each round has a store of its own, so that neither side pays for what earlier rounds left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks import peer
from benchmarks.by_hand import protected_by_hand
from benchmarks.figures import Figure, of_pairs
from benchmarks.pairs import Batch, Subject, compare

import retrysafe

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTION = "in memory"
CALLS = 300
GOALS = {"first": 1 / 4, "replay": 1 / 6}
KEYS = {"whole payload": "", "one field": "id"}

Payload: TypeAlias = dict[str, Any]
Protected: TypeAlias = Callable[[Payload], Any]
"""One protected call of a payload."""


class LambdaContext:
    """As much of Lambda's context as both sides ask for."""

    function_name = "benchmark"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        """Always the same, so that no lease ends."""
        return 30_000


def payloads(count: int = CALLS) -> list[Payload]:
    """Payloads of ten fields, each with a key of its own."""
    return [{f"field_{field}": f"value {field}" for field in range(9)} | {"id": number} for number in range(count)]


def answer(data: Payload) -> dict[str, Any]:  # noqa: ARG001  # the payload only makes the key
    """An answer of five fields."""
    return {"statusCode": 200, "count": 1, "text": "x", "nothing": None, "done": True}


def handler(event: Payload, context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001  # as above
    return answer(event)


def our_function(expression: str) -> Protected:
    protected = retrysafe.idempotent_function(
        answer,
        data_keyword_argument="data",
        persistence_store=retrysafe.MemoryPersistenceLayer(),
        config=retrysafe.IdempotencyConfig(event_key_jmespath=expression),
    )
    return lambda payload: protected(data=payload)


def our_handler(expression: str) -> Protected:
    protected = retrysafe.idempotent(
        handler,
        persistence_store=retrysafe.MemoryPersistenceLayer(),
        config=retrysafe.IdempotencyConfig(event_key_jmespath=expression),
    )
    context = LambdaContext()
    return lambda payload: protected(payload, context)


def peer_function(expression: str) -> Protected:
    protected = peer.idempotent_function(
        answer,
        data_keyword_argument="data",
        persistence_store=peer.PeerMemoryLayer(),
        config=peer.config(expression, LambdaContext()),
    )
    return lambda payload: protected(data=payload)


def peer_handler(expression: str) -> Protected:
    context: Any = LambdaContext()
    protected = peer.idempotent(
        handler, persistence_store=peer.PeerMemoryLayer(), config=peer.config(expression, context)
    )
    return lambda payload: protected(payload, context)


def our_by_hand(_expression: str) -> Protected:
    return protected_by_hand(answer)


FORMS = {"idempotent_function": (our_function, peer_function), "idempotent": (our_handler, peer_handler)}


def subject(make: Callable[[str], Protected], expression: str, path: str) -> Subject:
    """Rounds of first calls, or of replays of calls made before the clock runs."""

    def ready() -> Batch:
        protected = make(expression)
        given = payloads()
        if path == "replay":
            _each(protected, given)
        else:
            protected({"id": -1})  # what a store does once, at its first call, is no part of a call
        return partial(_each, protected, given)

    return ready


def _each(protected: Protected, given: list[Payload]) -> None:
    for payload in given:
        protected(payload)


async def answer_async(data: Payload) -> dict[str, Any]:
    return answer(data)


def async_subject(expression: str, path: str, loop: asyncio.AbstractEventLoop) -> Subject:
    """The same of our async form, all calls of a round one after the other in one task."""

    def ready() -> Batch:
        protected = retrysafe.idempotent_function(
            answer_async,
            data_keyword_argument="data",
            persistence_store=retrysafe.AsyncMemoryPersistenceLayer(),
            config=retrysafe.IdempotencyConfig(event_key_jmespath=expression),
        )
        given = payloads()

        async def each() -> None:
            for payload in given:
                await protected(data=payload)

        if path == "replay":
            loop.run_until_complete(each())
        return lambda: loop.run_until_complete(each())

    return ready


def measure(rounds: int) -> Iterator[Figure]:
    for form, (ours, theirs) in FORMS.items():
        for key, expression in KEYS.items():
            for path, goal in GOALS.items():
                pairs = compare(
                    subject(ours, expression, path), subject(theirs, expression, path), calls=CALLS, rounds=rounds
                )
                yield of_pairs(SECTION, f"{path}, {form}, {key}", "Powertools", pairs, at_most=goal)
    for path in GOALS:
        by_hand, ours = subject(our_by_hand, "", path), subject(our_function, "", path)
        pairs = compare(by_hand, subject(peer_function, "", path), calls=CALLS, rounds=rounds)
        yield of_pairs(SECTION, f"{path}, written out by hand, whole payload", "Powertools", pairs)
        pairs = compare(ours, by_hand, calls=CALLS, rounds=rounds)
        yield of_pairs(SECTION, f"{path}, idempotent_function, whole payload", "the same by hand", pairs)
    loop = asyncio.new_event_loop()
    try:
        for path in GOALS:
            pairs = compare(async_subject("", path, loop), subject(our_function, "", path), calls=CALLS, rounds=rounds)
            yield of_pairs(SECTION, f"{path}, async def, whole payload", "our sync", pairs)
    finally:
        loop.close()
