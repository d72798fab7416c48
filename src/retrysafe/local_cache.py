"""The local cache: answers this process has seen, so that a replay need not ask the store.

Off by default: it cannot know of a record that somebody removes from the store before its window is over.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from retrysafe.locks import new_rlock
from retrysafe.persistence._forks import begin_anew_in_children
from retrysafe.persistence.datarecord import COMPLETED

if TYPE_CHECKING:
    from retrysafe.persistence.datarecord import DataRecord


class LocalCache:
    """The most recently used completed records of one layer, under the keys they have there.

    Args:
        max_items: How many records are kept.
    """

    __slots__ = ("__weakref__", "_lock", "_max_items", "_records")

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._records: OrderedDict[str, DataRecord] = OrderedDict()
        self._begin()
        begin_anew_in_children(self._begin)

    def _begin(self) -> None:
        # Re-entrant, as a signal handler may run calls of its own on top of whatever its thread is doing here.
        self._lock = new_rlock()

    def get(self, idempotency_key: str, now_ms: int) -> DataRecord | None:
        """The completed record under this key, if it is here and its window is not over."""
        with self._lock:
            record = self._records.get(idempotency_key)
            if record is None:
                return None
            if record.window_over(now_ms):
                self._records.pop(idempotency_key, None)
                return None
            if idempotency_key in self._records:  # what a signal handler has put here may have pushed it out
                self._records.move_to_end(idempotency_key)
            return record

    def put(self, record: DataRecord) -> None:
        """Keep a record, if it is a completed one."""
        if record.stored_status != COMPLETED:
            return
        with self._lock:
            self._records.pop(record.idempotency_key, None)
            self._records[record.idempotency_key] = record
            if len(self._records) > self._max_items:
                self._records.popitem(last=False)

    def clear(self) -> None:
        """Forget everything, for instance after records were removed from the store by hand."""
        with self._lock:
            self._records.clear()

    def __len__(self) -> int:
        return len(self._records)
