"""Items of a batch with the key of one before them: each begins when that one has ended, knowing what then stands."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from retrysafe.persistence.datarecord import INPROGRESS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from retrysafe._batch.item import Item
    from retrysafe._batch.order import Order
    from retrysafe.persistence.datarecord import DataRecord


class SameKey:
    """Those that wait for their turn.

    Attributes:
        behind: Those that wait, by their key; only keys that come more than once.
        ended: Items that have ended, and whose successors are still to begin.
    """

    def __init__(self) -> None:
        self.behind: dict[str, deque[Item]] = {}
        self.ended: deque[Item] = deque()

    def keep_back(self, items: Iterable[Item]) -> deque[Item]:
        """The items that need not wait for one with the same key: they have none, or are the first with theirs."""
        coming: deque[Item] = deque()
        keys: set[str] = set()
        for item in items:
            if item.call is not None:
                key = item.call.idempotency_key
                if key in keys:
                    self.behind.setdefault(key, deque()).append(item)
                    continue
                keys.add(key)
            coming.append(item)
        return coming

    def successor(self, order: Order | None) -> tuple[Item, DataRecord | None] | None:
        """The next item whose turn has come, with the outcome that is known to stand: one for each item that ended."""
        while self.ended:
            ended = self.ended.popleft()
            stands, ended.stands = ended.stands, None
            waiting = self.behind.get(ended.call.idempotency_key) if ended.call is not None else None
            while waiting:
                item = waiting.popleft()
                if order is None or not order.leaves_out(item):
                    is_outcome = stands is not None and stands.stored_status != INPROGRESS
                    return item, stands if is_outcome else None
        return None
