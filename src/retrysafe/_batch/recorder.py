"""The thread that records the outcomes of a batch while the batch claims its next keys and runs them.

The store's time and the batch's own then pass together instead of one after the other. It is there only for batches
that claim more than once, on a layer that waits for a disk or a network.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import copy_context
from threading import Thread
from typing import TYPE_CHECKING, Any
from weakref import ref

from retrysafe.queues import new_queue

if TYPE_CHECKING:
    from _queue import SimpleQueue
    from collections.abc import Callable


class Recorder:
    """Records when it is told to, in a thread that begins with the first time.

    The thread holds neither this nor the batch while it waits, and ends with them also where an interruption struck
    right before it could be told to.
    """

    __slots__ = ("__weakref__", "_told", "_works")

    def __init__(self) -> None:
        self._told = new_queue()
        self._works = False

    def tell(self, record: Callable[[], None]) -> bool:
        """Let it record what there is to be recorded; False where no thread is to be had."""
        if not self._works:
            # What tells of the end is one step in C, as an interruption in a finalizer of Python's would be lost.
            end = ref(self, self._told.put)
            # In the caller's context, so that what traces the client sees the calls where they belong.
            run = copy_context().run
            thread = Thread(target=run, args=(_work, self._told, end), name="retrysafe-batch", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._works = True
        self._told.put(record)
        return True

    def end(self) -> None:
        """Nothing more is to be recorded; the thread ends by itself."""
        if self._works:
            self._works = False
            self._told.put(None)


def _work(told: SimpleQueue[Any], end: ref[Recorder]) -> None:
    while (record := told.get()) is not None and record is not end:
        with suppress(BaseException):  # what it left is found by the batch's own thread, which meets the same
            record()
        del record
