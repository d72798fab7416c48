"""The run of one item of a batch: what it holds up beside itself, and where it goes on if its function forks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from retrysafe.exceptions import IdempotencyLeaseLostError
from retrysafe.running import Running
from retrysafe.wishes import Raised

if TYPE_CHECKING:
    from retrysafe._batch.item import Item
    from retrysafe._batch.state import Batch
    from retrysafe.wishes import Ending


class ItemRun(Running):
    """One of a batch that runs one item after the other. Its driver fills it in.

    Attributes:
        batch: The batch.
    """

    __slots__ = ("batch",)

    batch: Batch

    def holds_up(self, owner: str | None) -> bool:
        """Also the items that are claimed already and have not run: their turn comes when this one has ended."""
        return self.claim.owner == owner or self.batch.is_waiting_for_its_turn(owner)


def leave(item: Item, ending: Ending) -> NoReturn:
    """Leave a batch in a process that this item forked off: the items, and their keys, are the parent's.

    Raises:
        BaseException: What the item raised here; or IdempotencyLeaseLostError, with what it returned.
    """
    if isinstance(ending, Raised):
        raise ending.taken()
    raise IdempotencyLeaseLostError(
        "an item of a batch forked off this process; the batch goes on in the parent, and nothing is stored here",
        "" if item.call is None else item.call.idempotency_key,
        response=ending.value,
    )
