"""What the user's function did to the world: the effects that the user's ledger shows, counted and compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

Ledger: TypeAlias = "int | Mapping[Any, int] | Collection[Any]"
Effects: TypeAlias = "Ledger | Callable[[], Ledger]"
"""What `crash_points` is given: the ledger, or a function that reads it."""

Tally: TypeAlias = "dict[Any, int]"
"""How often each effect happened."""

ANY = "effects"
"""The name of effects that are only counted."""


def tally(effects: Effects) -> Tally:
    """Count what the ledger shows now.

    Raises:
        TypeError: It is neither a number, nor a mapping to numbers, nor a collection; or one that hides repetitions.
    """
    ledger: Any = effects() if callable(effects) else effects
    kind = _kind_of(ledger)
    if kind is int:
        return {ANY: ledger}
    if kind is Mapping:
        return {_countable(effect): int(times) for effect, times in ledger.items()}
    return dict(Counter(map(_countable, ledger)))


def since(before: Tally, after: Tally) -> Tally:
    """What has come since; effects that were undone count below zero."""
    effects = [*after, *(effect for effect in before if effect not in after)]
    changes = {effect: after.get(effect, 0) - before.get(effect, 0) for effect in effects}
    return {effect: times for effect, times in changes.items() if times}


def merged(counted: Tally) -> Tally:
    """The number of all effects together, for those that have another name each time."""
    return {ANY: sum(counted.values())}


def differences(expected: Mapping[Any, int], seen: Mapping[Any, int]) -> dict[Any, tuple[int, int]]:
    """Where the two differ: how often an effect was to happen, and how often it did."""
    effects = [*expected, *(effect for effect in seen if effect not in expected)]
    pairs = {effect: (expected.get(effect, 0), seen.get(effect, 0)) for effect in effects}
    return {effect: pair for effect, pair in pairs.items() if pair[0] != pair[1]}


def _countable(effect: Any) -> Any:
    try:
        hash(effect)
    except TypeError:
        return repr(effect)
    return effect


def _kind_of(ledger: object) -> type[Any]:
    for kind in (int, Mapping, Collection):
        # A set holds nothing twice, and a text is no collection of effects.
        if isinstance(ledger, kind) and not isinstance(ledger, AbstractSet | str | bytes):
            return kind
    raise TypeError(
        "effects must be, or give, a number, a collection of effects in which each stands as often as it happened, or "
        f"a mapping from effects to numbers; it is {ledger!r}"
    )
