"""Three lots of threads for a layer's operations, so that none of them stands behind others that may take long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from retrysafe.persistence.many import Operation

T = TypeVar("T")


class Lanes(Generic[T]):
    """What a run owes stands behind no claims, and a renewal behind nothing else.

    While a table throttles, claims may keep threads for longer than a lease lasts.

    Args:
        make: Makes a lot of so many threads.
        most: How many there are for claims and looks, and how many for outcomes and releases; a quarter as many renew.
    """

    __slots__ = ("_claims", "_owed", "_renewals")

    def __init__(self, make: Callable[[int], T], most: int) -> None:
        self._claims, self._owed, self._renewals = make(most), make(most), make(max(1, most // 4))

    def of(self, operation: Operation) -> T:
        """The lot that carries the operation out."""
        if operation == "renew":
            return self._renewals
        return self._owed if operation in ("update", "delete") else self._claims

    def __iter__(self) -> Iterator[T]:
        return iter((self._claims, self._owed, self._renewals))
