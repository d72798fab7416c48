"""The order that a batch keeps if it is told to: nothing runs behind an item that failed, or ahead of one that waits.

For queues that keep an order, such as FIFO queues and streams; see `stop_at_failure`. No I/O.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from retrysafe._batch.item import Item


class Order:
    """The order of a batch's items.

    Args:
        items: All items, in their order.
    """

    __slots__ = ("_failed_at", "_unrun")

    def __init__(self, items: Iterable[Item]) -> None:
        self._failed_at: int | None = None
        # Those that have neither run nor ended, behind some that have.
        self._unrun = deque(items)

    def failed(self, item: Item) -> None:
        """The item has failed."""
        if self._failed_at is None or item.index < self._failed_at:
            self._failed_at = item.index

    def leaves_out(self, item: Item) -> bool:
        """Whether an item before it failed."""
        return self._failed_at is not None and item.index > self._failed_at

    def is_turn_of(self, item: Item) -> bool:
        """Whether each item before it runs, has run, or never will."""
        unrun = self._unrun  # never empty: of all that were asked for, the last one is in it
        while unrun[0].index < item.index and self._is_past(unrun[0]):
            unrun.popleft()
        return unrun[0].index >= item.index

    def _is_past(self, item: Item) -> bool:
        return item.is_running or item.has_run or item.ending is not None or self.leaves_out(item)
