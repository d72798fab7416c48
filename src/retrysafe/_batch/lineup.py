"""The line-up of a batch: its items by what they wait for, and what may be done next. No I/O, and no flows of calls."""

from __future__ import annotations

from bisect import insort
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING

from retrysafe._batch.order import Order
from retrysafe._batch.pauses import Pauses
from retrysafe._batch.same_key import SameKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrysafe._batch.item import Item

_PLACE = attrgetter("index")


class Lineup:
    """The items, by what they wait for.

    Args:
        items: All items.
        stop_at_failure: Whether those after one that failed are left out, and so none runs ahead of one that waits.

    Attributes:
        asking: Those that have a claim, or a look, for the store.
        writing: Those that have an outcome or a release for it. Whoever carries them out takes them from here.
        ready: Those whose function is to run, in the order of the batch.
        paused: Those that wait; to be asked for whether there is any.
        is_urgent: Whether one of them was tried before, or follows a claim that was.
        claimed: All whose claim stands, by index: to be renewed until they are over.
    """

    def __init__(self, items: Sequence[Item], *, stop_at_failure: bool) -> None:
        self._order = Order(items) if stop_at_failure else None
        self._same_key = SameKey()
        self._coming: deque[Item] = deque()
        self._live: dict[int, Item] = {}
        self.asking: list[Item] = []
        self.writing: deque[Item] = deque()
        self.is_urgent = False
        self.ready: list[Item] = []
        self._pauses = Pauses()
        self.paused = self._pauses.by_due
        self.claimed: dict[int, Item] = {}

    @property
    def is_coming(self) -> bool:
        """Whether there are items that are to begin next."""
        return bool(self._coming) and not self.ready

    @property
    def is_ready(self) -> bool:
        """Whether a function may run now."""
        return bool(self.ready) and (self._order is None or self._order.is_turn_of(self.ready[0]))

    @property
    def is_over(self) -> bool:
        """Whether every item has its ending."""
        return not self._live and not self._coming

    @property
    def is_held_up(self) -> bool:
        """Whether an outcome could not be stored, and is to be tried again."""
        return bool(self.paused) and self._pauses.is_held_up

    @property
    def next_due(self) -> float:
        """When the first pause is over, on the monotonic clock, in seconds."""
        return self._pauses.next_due

    def is_waiting_for_its_turn(self, owner: str | None) -> bool:
        """Whether an item of that owner is claimed, and its function is still to begin."""
        return any(
            item.call is not None and item.call.owner == owner and not (item.is_running or item.has_run)
            for item in list(self.claimed.values())
        )

    def _empty(self) -> None:
        """Nobody is to begin any more, and what somebody waits for is to be asked anew."""
        self._coming.clear()
        self._same_key = SameKey()
        self.asking, self.ready, self._pauses = [], [], Pauses()
        self.paused = self._pauses.by_due
        self.writing.clear()

    def _add_ready(self, item: Item) -> None:
        if self.ready and self.ready[-1].index > item.index:
            insort(self.ready, item, key=_PLACE)
        else:  # as it mostly comes
            self.ready.append(item)
