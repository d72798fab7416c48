"""The thread that records the outcomes of a batch while the batch claims its next keys and runs them.

The store's time and the batch's own then pass together instead of one after the other. It is there only for batches
that claim more than once, on a layer that waits for a disk or a network.
"""

from __future__ import annotations

from _queue import SimpleQueue
from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Recorder:
    """Records when it is told to, in a thread that begins with the first time.

    Args:
        record: Records what there is to be recorded.
    """

    __slots__ = ("_record", "_told", "_works")

    def __init__(self, record: Callable[[], None]) -> None:
        self._record = record
        self._told: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._works = False

    def tell(self) -> bool:
        """Let it record; False where no thread is to be had."""
        if not self._works:
            # In the caller's context, so that what traces the client sees the calls where they belong.
            thread = Thread(target=copy_context().run, args=(self._work,), name="retrysafe-batch", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._works = True
        self._told.put(self._record)
        return True

    def end(self) -> None:
        """Nothing more is to be recorded; the thread ends by itself."""
        if self._works:
            self._works = False
            self._told.put(None)

    def _work(self) -> None:
        while (record := self._told.get()) is not None:
            with suppress(BaseException):  # what it left is found by the batch's own thread, which meets the same
                record()
