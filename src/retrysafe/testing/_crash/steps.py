"""The steps of the user's code as points of a crash test: each line before it runs, each await as it waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrysafe.testing._crash.life import Killed
from retrysafe.testing._crash.with_ends import block_ending, leave, manager_entered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from types import FrameType

    from retrysafe.testing._crash.life import Life

BEFORE_LINE = "before this line"
BEFORE_END = "before the end of this block"
WHILE_WAITING = "while this line waited"
DONE_WAITING = "when what this line waited for was done"


def tracer(life: Life) -> Callable[[FrameType, str, Any], Any]:
    """What `sys.settrace` takes so that the lines of a life's functions are its points."""

    def call(frame: FrameType, event: str, _: Any) -> Any:  # noqa: ARG001  # the interpreter hands it
        caller = frame.f_back
        if caller is not None and isinstance(caller.f_trace, _Lines):
            caller.f_trace.calls(caller, frame)
        # A coroutine that goes on is a call as well, and keeps what it has.
        return frame.f_trace or (_Lines(life) if life.watches(frame.f_code) else None)

    return call


class _Lines:
    """What the interpreter tells of the lines of one frame."""

    __slots__ = ("_came_from", "_entered", "_life")

    def __init__(self, life: Life) -> None:
        self._life = life
        self._came_from = 0
        self._entered: dict[int, Any] = {}

    def calls(self, frame: FrameType, callee: FrameType) -> None:
        """See what this frame's `with` statements enter, by their lines."""
        manager = manager_entered(callee)
        if manager is not None:
            self._entered[frame.f_lineno] = manager

    def __call__(self, frame: FrameType, event: str, _: Any) -> _Lines:
        if event != "line":
            return self
        block = block_ending(frame, self._came_from)
        self._came_from = frame.f_lineno
        try:
            self._life.at("line", BEFORE_LINE if block is None else BEFORE_END, frame)
        except Killed as killed:
            if block is not None:
                leave(frame, block, self._entered.get(frame.f_lineno), killed)
            raise
        return self


class Steps:
    """An awaitable around the user's, which makes each of its waits two points of a life.

    Args:
        awaitable: What the user's function gave.
        life: The life it belongs to.
    """

    def __init__(self, awaitable: Awaitable[Any], life: Life) -> None:
        self._awaitable = awaitable
        self._life = life
        self._told = False

    def __await__(self) -> Generator[Any, Any, Any]:
        steps: Any = self._awaitable.__await__()
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                waits_for = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            answer, error = None, self._dies(WHILE_WAITING)
            if error is not None:
                continue
            try:
                answer = yield waits_for
            except BaseException as thrown:  # noqa: BLE001  # a cancellation, say, which is the user's code's
                error = thrown
            error = self._dies(DONE_WAITING) or error

    def _dies(self, what: str) -> Killed | None:
        """The death to be thrown into the user's code, where this is the point of it."""
        life = self._life
        if life.in_store:
            return None  # it is the store that is waited for, which has points of its own
        try:
            life.at("await", what, _innermost(self._awaitable, life))
        except Killed as killed:
            self._told = True
            return killed
        if life.killed is None or self._told:
            return None
        self._told = True
        return Killed(what)  # a task beside this one died, and took the process with it


def _innermost(awaitable: Any, life: Life) -> FrameType | None:
    """The frame of the user's code that waits: the last in the chain of those whose lines are points."""
    found = None
    while awaitable is not None:
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "gi_frame", None)
        if frame is not None and life.watches(frame.f_code):
            found = frame
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "gi_yieldfrom", None)
    return found
