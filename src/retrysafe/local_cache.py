"""The local cache: answers this process has seen, so that a replay need not ask the store.

Off by default: it cannot know of a record that somebody removes from the store before its window is over.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from retrysafe.persistence.datarecord import COMPLETED

if TYPE_CHECKING:
    from retrysafe.persistence.datarecord import DataRecord


class LocalCache:
    """The most recently used completed records of one layer, under the keys they have there.

    Args:
        max_items: How many records are kept.
    """

    __slots__ = ("_max_items", "_records")

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        # Without a lock: each step is one in C, and none counts on the one before it. With one a process that is forked
        # while another thread holds it would wait for ever, and so would a signal handler that calls a function.
        self._records: OrderedDict[str, DataRecord] = OrderedDict()

    def get(self, idempotency_key: str, now_ms: int) -> DataRecord | None:
        """The completed record under this key, if it is here and its window is not over."""
        record = self._records.get(idempotency_key)
        if record is None:
            return None
        if record.window_over(now_ms):
            self._records.pop(idempotency_key, None)
            return None
        try:  # noqa: SIM105  # suppress() would cost each replay a microsecond
            self._records.move_to_end(idempotency_key)
        except KeyError:  # removed meanwhile
            pass
        return record

    def put(self, record: DataRecord) -> None:
        """Keep a record, if it is a completed one."""
        if record.stored_status != COMPLETED:
            return
        try:
            self._records[record.idempotency_key] = record
            self._records.move_to_end(record.idempotency_key)
        except KeyError:  # as above
            pass
        try:
            while len(self._records) > self._max_items:
                self._records.popitem(last=False)
        except KeyError:
            pass

    def clear(self) -> None:
        """Forget everything, for instance after records were removed from the store by hand."""
        self._records.clear()

    def __len__(self) -> int:
        return len(self._records)
