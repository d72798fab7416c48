"""The items of a batch that wait: until when each does, and who holds up the others. No I/O.

A batch asks before each of its steps, and thousands may wait at the same time for keys that others hold: what it asks
takes no longer with many than with a few.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retrysafe._batch.item import Item
    from retrysafe._batch.order import Order
    from retrysafe.wishes import Pause

# Of thousands that wait each looks less often, or their looks would leave no time for those that run.
LOOKS_PER_SECOND = 5000


class Pauses:
    """The items whose flows wish for a pause.

    Attributes:
        by_due: A heap of them, the next one that is due in front; to be asked for whether there is any.
    """

    __slots__ = ("_held_up", "by_due")

    def __init__(self) -> None:
        self.by_due: list[tuple[float, int, Item]] = []
        self._held_up = 0

    @property
    def is_held_up(self) -> bool:
        """Whether one of them has run: its outcome could not be stored, and is to be tried again."""
        return self._held_up > 0

    @property
    def next_due(self) -> float:
        """When the first pause is over, on the monotonic clock, in seconds."""
        return self.by_due[0][0] if self.by_due else float("inf")

    def add(self, item: Item, pause: Pause, now: float) -> None:
        """It waits from now on; for longer than it wishes where many do, but no longer than it may."""
        seconds = pause.seconds
        if pause.at_most is not None:
            seconds = max(seconds, min(pause.at_most, len(self.by_due) / LOOKS_PER_SECOND))
        item.due = now + seconds
        self._held_up += item.has_run
        heappush(self.by_due, (item.due, item.index, item))

    def over(self, now: float) -> list[Item]:
        """Those whose pauses are over, which wait no longer."""
        over: list[Item] = []
        while self.by_due and self.by_due[0][0] <= now:
            item = heappop(self.by_due)[2]
            self._held_up -= item.has_run
            over.append(item)
        return over

    def left_out(self, order: Order) -> list[Item]:
        """Those behind one that failed, which wait no longer; but not what has run."""
        left_out = [item for _, _, item in self.by_due if not item.has_run and order.leaves_out(item)]
        if left_out:
            self.by_due[:] = sorted(each for each in self.by_due if each[2].has_run or not order.leaves_out(each[2]))
        return left_out
