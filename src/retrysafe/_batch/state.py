"""The calls of a batch side by side: one flow of the protocol for each item, and what each of them waits for. No I/O.

No rule of idempotency stands here. Each item is a whole call of its own, `idempotent_call`; what is decided here is the
order in which their wishes are carried out, and which of them go to the store together:

- Items begin in their order, `most_claimed` at a time. Their claims go together, and so do their outcomes.
- An item with the key of one before it begins when that one has ended. What is then known to stand answers its claim.
- Where an order is to be kept, none runs before all that are before it have run, or ended.
- While an outcome could not be stored and is to be tried again, no further item runs.
- At an interruption what has run is still recorded, and what has not is freed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrysafe._batch.item import UNANSWERED, Item
from retrysafe._batch.lineup import Lineup
from retrysafe.clock import monotonic
from retrysafe.lease import UNDECIDED
from retrysafe.owed import interrupted
from retrysafe.persistence.datarecord import DataRecord
from retrysafe.protocol import idempotent_call, known_answer
from retrysafe.wishes import Claim, Complete, Ending, Fetch, Invoke, Op, Pause, Raised, StoreFailed

if TYPE_CHECKING:
    from collections.abc import Sequence


class Batch(Lineup):
    """The items, each with the flow of its call.

    Args:
        items: All items. Those that have an ending already take no part.
        most_claimed: How many begin at a time.
        stop_at_failure: Whether those after one that failed are left out, and so none runs ahead of one that waits.
        own_errors: What an item may end with by itself; anything else interrupts the batch.

    Attributes:
        interruption: What ends the batch early.
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        most_claimed: int,
        stop_at_failure: bool = False,
        own_errors: tuple[type[BaseException], ...] = (Exception,),
    ) -> None:
        super().__init__(items, stop_at_failure=stop_at_failure)
        self._most_claimed = most_claimed
        self._own_errors = own_errors
        self.interruption: BaseException | None = None
        for item in items:
            if item.ending is not None:
                self._note_failure(item, item.ending)
        self._coming = self._same_key.keep_back([item for item in items if item.ending is None])

    # --- what is to be done ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin with the next items."""
        begun = self._most_claimed if self.ready else 0  # what is ready, and may have to wait, is claimed ahead already
        while self._coming and begun < self._most_claimed:
            item = self._coming.popleft()
            if self._order is not None and self._order.leaves_out(item):
                continue
            begun += 1
            self._begin(item)
        self._begin_successors()

    def take_ready(self) -> Item | None:
        """The next item whose function is to run. None where those next in line must claim anew: their leases ended."""
        ready, order = self.ready, self._order
        while ready and (order is None or order.is_turn_of(ready[0])):
            item = ready.pop(0)
            if order is not None and order.leaves_out(item):
                self._give_up(item)
            elif item.may_run():
                return item
            else:
                for each in (item, *(each for each in ready if not each.may_run())):
                    self._begin_again(each)
                return None
        return None

    def take_due(self, now: float) -> None:
        """End the pauses that are over.

        Args:
            now: The reading of the monotonic clock, in seconds.
        """
        for item in self._pauses.over(now):
            self.answer(item, now)

    # --- what was done ---------------------------------------------------------------------------------------------

    def answer_all(self, answers: Sequence[tuple[Item, Any]]) -> None:
        """`answer` for each of several items: all have their answers before a hook of one can interrupt the others."""
        for item, answer in answers:
            item.answer = answer
        for item, answer in answers:
            self.answer(item, answer)

    def answer(self, item: Item, answer: Any) -> None:
        """What the item wished for was carried out: go on to its next wish, or to its end.

        Raises:
            BaseException: An interruption ended it.
        """
        if item.call is None:
            item.is_running, item.has_run = False, True
            self._ended(item, answer)
            return
        op = item.op
        ending: Ending | None = None
        if type(op) is Invoke:
            ending = answer
            item.is_running, item.has_run = False, True
            if self._order is not None:
                self._note_failure(item, ending)
        elif answer is None:
            item.stands = op.record if type(op) is Complete else None
        elif isinstance(answer, DataRecord):
            item.stands = answer
        self._step(item, answer)
        if self._same_key.ended:
            self._begin_successors()
        if type(ending) is Raised:
            self._let_through(ending)

    def interrupt(self, error: BaseException) -> None:
        """An interruption, which `stop` follows: from now on no item's ending raises it once more.

        One that struck while many outcomes were recorded is the ending of each of them.
        """
        if self.interruption is None:
            self.interruption = error

    def stop(self, error: BaseException) -> None:
        """Nothing more begins; each item that has begun goes on to what it owes to the store.

        Items whose function is still under way are to be ended by whoever runs them.
        """
        self.interrupt(error)
        self._empty()
        for item in list(self._live.values()):
            if not item.is_running:
                self._stop(item, error)

    # --- one item --------------------------------------------------------------------------------------------------

    def _begin(self, item: Item, standing: DataRecord | None = None) -> None:
        self._live[item.index] = item
        call = item.call
        if call is None:
            self._add_ready(item)
            return
        known = known_answer(call)
        if known is not None:
            self._ended(item, known)
            return
        item.flow = idempotent_call(call)
        self._step(item, None)
        if standing is not None and isinstance(item.op, Claim):
            self.asking.remove(item)
            item.stands = standing
            self._step(item, standing)

    def _begin_again(self, item: Item) -> None:
        if item in self.ready:
            self.ready.remove(item)
        self.claimed.pop(item.index, None)
        item.is_anew = True
        if item.call is not None:
            item.call.lease = UNDECIDED
            item.flow.close()
            item.flow = idempotent_call(item.call)
            self._step(item, None)

    def _begin_successors(self) -> None:
        """Begin with those that waited for an item of the same key to end: one of each key."""
        while (successor := self._same_key.successor(self._order)) is not None:
            self._begin(*successor)

    def _step(self, item: Item, answer: Any) -> None:
        item.answer = answer  # until the next wish is known: by this a flow shows that was torn apart meanwhile
        try:
            op = item.flow.send(answer)
        except StopIteration as stop:
            self._ended(item, stop.value)
            return
        before, item.op = item.op, op
        item.answer = UNANSWERED
        self._enqueue(item, op, before)

    def _enqueue(self, item: Item, op: Op[Any], before: Op[Any] | None) -> None:
        kind = type(op)  # looked at once; three of each item's wishes come by here
        if kind is Invoke:
            invoke: Any = op
            claim = invoke.claim
            item.claim = claim
            item.lease_end_ms = claim.in_progress_expiry_timestamp
            self.claimed[item.index] = item
            self._add_ready(item)
        elif kind is Claim or kind is Fetch:
            self.asking.append(item)
        elif isinstance(op, Pause):
            if self._order is not None and not item.has_run and self._order.leaves_out(item):
                self._leave_out(item)
            else:
                self._pauses.add(item, op, monotonic())
        else:
            if type(before) is not Invoke:  # a store that failed, or an interruption that waits for this
                self.is_urgent = True
            self.writing.append(item)

    def _ended(self, item: Item, ending: Ending | None) -> None:
        item.ending = ending
        item.answer = UNANSWERED
        self.claimed.pop(item.index, None)
        self._live.pop(item.index, None)
        # Of what was sent to the store nothing is kept: many answers would be held twice until the batch is over.
        item.op = item.claim = None
        if self._same_key.behind:
            self._same_key.ended.append(item)
        else:
            item.stands = None  # nobody will ask for it
        if type(ending) is Raised:
            self._note_failure(item, ending)
            self._let_through(ending)

    def _let_through(self, ending: Ending | None) -> None:
        """Raise what is no item's own, but an interruption of them all."""
        if isinstance(ending, Raised) and self.interruption is None and not isinstance(ending.error, self._own_errors):
            raise ending.error

    def _stop(self, item: Item, error: BaseException) -> None:
        op, torn = item.op, item.answer is not UNANSWERED
        if op is None or torn or isinstance(op, Claim | Invoke):
            self._give_up(item, item.answer if torn else None)
        elif isinstance(op, Pause | Fetch):
            self._step(item, StoreFailed(error))
        else:
            self._enqueue(item, op, op)

    def _give_up(self, item: Item, answer: Any = None) -> None:
        """Do no more than it owes to the store, if anything."""
        if item.call is None:
            self._ended(item, None)
        else:
            item.flow = interrupted(item.call, item.op, answer)
            self._step(item, None)

    # --- items after a failure -------------------------------------------------------------------------------------

    def _note_failure(self, item: Item, ending: Ending | None) -> None:
        order = self._order
        if order is None or not isinstance(ending, Raised):
            return
        order.failed(item)
        for waiting in self._pauses.left_out(order):
            self._leave_out(waiting)

    def _leave_out(self, waiting: Item) -> None:
        """It would wait for what it is not to do: it is left out, and has no claim to give up."""
        waiting.flow.close()
        self._ended(waiting, None)
