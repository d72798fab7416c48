"""Renews beside an event loop what the loop has not renewed in time, since something blocks it.

A function that is async may call what is not, such as a client that waits for an answer; its loop then renews nothing
meanwhile. The heartbeat's thread does so where the layer opens a client of its own in each event loop: it renews in
another one, which lasts for that alone. A client that was passed in belongs to the blocked loop.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, cast

from retrysafe.clock import monotonic
from retrysafe.events import logger
from retrysafe.heartbeat import LATE, heart, renew
from retrysafe.persistence.many import form_for_many, side_by_side

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from retrysafe.execution import Execution
    from retrysafe.persistence.base import AsyncBasePersistenceLayer
    from retrysafe.persistence.datarecord import DataRecord


class Beside:
    """What the heartbeat's thread does for the runs of one event loop.

    Args:
        loop: The loop.

    Attributes:
        renewal_due: When it is to look, on the monotonic clock, in seconds.
    """

    __slots__ = ("__weakref__", "_loop", "_runs", "renewal_due")

    blocking: ClassVar[bool] = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._runs: set[Execution] = set()
        self.renewal_due = inf

    @property
    def store(self) -> Beside:
        """Itself: the heartbeat is to give it a thread of its own."""
        return self

    def start(self, execution: Execution) -> None:
        """Look after a run until `stop`."""
        execution.late_at = late_at = monotonic() + LATE * execution.call.lease.renewal_seconds
        self._runs.add(execution)
        if late_at < self.renewal_due:
            self.renewal_due = late_at
            heart.look_after(self)

    def stop(self, execution: Execution) -> None:
        """Leave a run alone."""
        self._runs.discard(execution)

    def beat(self) -> bool:
        """Renew what is late, in the heartbeat's thread; False where nobody is left who would end the runs."""
        if self._loop.is_closed():
            return False
        began = monotonic()
        by_layer: dict[AsyncBasePersistenceLayer, list[Execution]] = {}
        for run in self._runs.copy():  # in one step, while the loop starts and stops others
            if run.over or run.is_deserted():
                self._runs.discard(run)
            elif run.late_at <= began:
                by_layer.setdefault(cast("AsyncBasePersistenceLayer", run.store), []).append(run)
        for layer, runs in by_layer.items():
            for run, due in zip(runs, renew(runs, partial(in_another_loop, layer)), strict=True):
                if due is None:
                    self._runs.discard(run)
                else:
                    run.late_at = due
        self.renewal_due = min([run.late_at for run in self._runs.copy()], default=inf)
        return True


def in_another_loop(layer: AsyncBasePersistenceLayer, renewals: Sequence[DataRecord]) -> list[Any]:
    """What came of the renewals, or the error: with a client that is opened for them and closed behind them."""
    import asyncio  # noqa: PLC0415  # loaded by now, since a loop runs; `import retrysafe` stays light

    async def renewed() -> list[Any]:
        async with layer:
            return await form_for_many(layer, "renew", side_by_side)("renew", renewals)

    logger().warning(
        "the event loop has not renewed %s in time, so it is done beside it: something blocks the loop",
        f"the lease of {renewals[0].shown_key}" if len(renewals) == 1 else f"{len(renewals)} leases",
    )
    try:
        return asyncio.run(renewed())
    except BaseException as error:  # noqa: BLE001  # becomes the outcome of each
        return [error] * len(renewals)
