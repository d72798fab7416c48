"""Runs inside of runs: the one under way in this thread or task, and those around it."""

from __future__ import annotations

from contextvars import ContextVar


class Run:
    """A run, as those that begin inside of it see it.

    Attributes:
        outer: The run inside which this one began, in the same thread or task.
        over: Whether its function has ended.
    """

    __slots__ = ("outer", "over")

    outer: Run | None
    over: bool

    def holds_up(self, owner: str | None) -> bool:
        """Whether a call of that owner can't end before this run has ended, so that the run must not wait for it."""
        raise NotImplementedError


current: ContextVar[Run | None] = ContextVar("retrysafe_execution", default=None)


def alive(run: Run | None) -> Run | None:
    """The innermost run that is not over, of this one and those around it."""
    while run is not None and run.over:
        run = run.outer
    return run


def is_inside(owner: str | None) -> bool:
    """Whether a call made here is inside the run of that owner, or of one that it holds up: it would wait in vain."""
    outer = current.get()
    while outer is not None:
        if not outer.over and outer.holds_up(owner):
            return True
        outer = outer.outer
    return False
