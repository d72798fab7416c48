"""Something done before each instruction of chosen code: what a signal, or another thread, may do there."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


@contextlib.contextmanager
def before_each_instruction(is_watched: Callable[[FrameType], bool], do: Callable[[], object]) -> Iterator[None]:
    """Call `do` before each instruction of the frames of this thread that are watched. It may raise there, once."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not is_watched(frame):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            do()
        return trace

    sys._getframe().f_trace_opcodes = True  # Python 3.12 heeds that of other frames only where one has it before
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)
