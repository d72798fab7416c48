"""A payload of 6 MB whose key is one field: a call must cost what it costs with 1 KB, whatever else is in it.

The goal leaves room for what a processor's caches do; a call that looked at the rest would cost a thousand times more.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, of_pairs
from benchmarks.memory import Protected, our_function, peer_function
from benchmarks.pairs import Batch, Subject, compare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECTION = "6 MB payload"
EXPRESSION = "id"
CALLS = 10
LARGE = 6_000_000
SMALL = 1_000
MOST_PEER_ROUNDS = 5  # a round of the peer's takes seconds
GOAL = 1.5
ITEM = {"sku": "A-1000", "amount": 12, "price": "19.90", "note": "a line of an order, with a text of its own"}
ITEM_BYTES = 100


def measure(rounds: int) -> Iterator[Figure]:
    for path in ("first", "replay"):
        ours = compare(
            _subject(our_function, path, LARGE), _subject(our_function, path, SMALL), calls=CALLS, rounds=rounds
        )
        yield of_pairs(SECTION, f"{path}, 6 MB / 1 KB, ours", "(1 KB)", ours, at_most=GOAL)
        theirs = compare(
            _subject(peer_function, path, LARGE),
            _subject(peer_function, path, SMALL),
            calls=CALLS,
            rounds=min(rounds, MOST_PEER_ROUNDS),
        )
        yield of_pairs(SECTION, f"{path}, 6 MB / 1 KB, Powertools", "(1 KB)", theirs)


def _subject(make: Callable[[str], Protected], path: str, size: int) -> Subject:
    items = [dict(ITEM) for _ in range(size // ITEM_BYTES)]

    def ready() -> Batch:
        protected = make(EXPRESSION)
        given = [{"id": number, "items": items} for number in range(CALLS)]
        if path == "replay":
            _each(protected, given)
        else:
            protected({"id": -1, "items": []})
        return partial(_each, protected, given)

    return ready


def _each(protected: Protected, given: list[dict[str, Any]]) -> None:
    for payload in given:
        protected(payload)
