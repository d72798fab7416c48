"""The driver of a sync batch: what comes next, until every item has its ending, in its caller's thread.

One function runs after the other. The async driver is in `drivers_async`.
"""

from __future__ import annotations

from time import sleep
from typing import TYPE_CHECKING, Any

from retrysafe._batch.keeping import Keeper
from retrysafe._batch.runs import ItemRun, leave
from retrysafe.clock import monotonic
from retrysafe.execution import forks
from retrysafe.pauses import INTERRUPTED_TRIES
from retrysafe.running import invoke
from retrysafe.wishes import Ending, Invoke, Raised, Returned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from retrysafe._batch.item import Item
    from retrysafe._batch.state import Batch
    from retrysafe.persistence.base import BasePersistenceLayer


class BatchRun:
    """A sync batch.

    Args:
        batch: The batch.
        store: The layer.
        function: What runs for each item: the item is its first argument.
        args: Its further arguments.
        kwargs: And those by name.
        record_after_seconds: How long an outcome may wait to be recorded.
    """

    def __init__(
        self,
        batch: Batch,
        store: BasePersistenceLayer,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        record_after_seconds: float,
    ) -> None:
        self._batch = batch
        self._store = store
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._keeper = Keeper(batch, store, record_after_seconds)
        self._start_beat = self._keeper.leases.start
        self._began_after = forks.times
        self._torn: BaseException | None = None
        self._tries = 0

    def run(self) -> None:
        """Carry everything out.

        Raises:
            BaseException: What interrupted it, such as a KeyboardInterrupt.
        """
        try:
            while True:
                try:
                    self._go_through()
                    break
                except BaseException as error:  # noqa: BLE001  # noted, and raised in the end
                    # Of signals that come together, the second one strikes right where the first was caught.
                    self._note(error)
        finally:
            self._keeper.end()
        if self._batch.interruption is not None:
            raise self._batch.interruption

    def _go_through(self) -> None:
        batch, keeper = self._batch, self._keeper
        while True:
            try:
                if self._torn is not None:
                    batch.interrupt(self._torn)
                    keeper.settle()
                    batch.stop(self._torn)
                    self._torn = None
                while self._step():
                    pass
            except BaseException as error:  # noqa: BLE001  # a signal struck, or a listener raised more than an Exception
                self._note(error)
            else:
                return

    def _note(self, error: BaseException) -> None:
        """An interruption: what it tore apart is seen to next; raised where that was tried often enough.

        Raised at once in a child that an item forked off, which is to leave the parent's records alone.
        """
        self._tries += 1
        if self._tries > INTERRUPTED_TRIES or self._began_after != forks.times:
            raise error
        self._torn = error

    def _step(self) -> bool:
        """Do what comes next; False when nothing does."""
        batch, keeper = self._batch, self._keeper
        if keeper.answered or batch.paused:
            keeper.take_answers()
            batch.take_due(monotonic())
        if batch.asking:
            keeper.ask()
        elif keeper.is_recording_due():
            keeper.record()
        elif batch.paused and batch.is_held_up:
            self._rest()
        elif (item := batch.take_ready()) is not None:
            self._run(item)
            keeper.ended()
        elif not batch.asking:
            return self._go_on()
        return True

    def _go_on(self) -> bool:
        """Nothing is left to run of what has begun: see that it is recorded, and begin with what follows."""
        batch, keeper = self._batch, self._keeper
        # Looked at first: a thread that takes outcomes from here afterwards is waited for, also where it has begun to
        # only since it was asked for.
        writing = bool(batch.writing)
        if keeper.is_recording():
            keeper.settle()
        elif batch.is_coming and writing and keeper.record_beside():
            batch.begin()
        elif writing:
            keeper.record()
        elif batch.is_coming:
            batch.begin()
        elif batch.paused:
            self._rest()
        else:
            return False
        return True

    def _run(self, item: Item) -> None:
        # Straight to where an interruption, wherever it strikes, finds that the function has run.
        if isinstance(item.op, Invoke):
            arguments, run = (item.value, *self._args), ItemRun()
            run.batch = self._batch
            item.answer = invoke(item.op, self._store, self._function, arguments, self._kwargs, self._start_beat, run)
        else:
            item.answer = self._plainly(item)
        if self._began_after != forks.times:
            leave(item, item.answer)
        self._batch.answer(item, item.answer)

    def _plainly(self, item: Item) -> Ending:
        """Without a key there is no protection."""
        try:
            return Returned(self._function(item.value, *self._args, **self._kwargs))
        except BaseException as error:  # noqa: BLE001  # the item's ending
            return Raised(error)

    def _rest(self) -> None:
        left = self._batch.next_due - monotonic()
        if left > 0:
            sleep(left)
