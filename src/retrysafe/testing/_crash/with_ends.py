"""The end of a `with`, as a place to die: an exception raised by a trace function there passes the `with` by.

On its way out of its block a `with` no longer protects itself. So a lock that it holds would stay taken in the test's
process, and a transaction open, as none does whose process dies. They are left here, as an exception inside of the
block would have left them.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import linecache
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from retrysafe.testing._crash.life import Killed

if TYPE_CHECKING:
    from types import FrameType


_ENTERING: Final = frozenset({"__enter__", "__aenter__"})


class Block(NamedTuple):
    """A block under a `with`.

    Attributes:
        lines: Its lines.
        item: What it is with; the last, where there are several, as those before it still protect themselves.
        is_async: Whether it is an `async with`.
    """

    lines: range
    item: ast.withitem
    is_async: bool


def block_ending(frame: FrameType, came_from: int) -> Block | None:
    """The block that a frame is about to leave by the end of its `with`; None where it is not.

    Args:
        frame: The frame, at the start of a line.
        came_from: The line before that; 0 for none.
    """
    block = _blocks(frame.f_code.co_filename).get(frame.f_lineno)
    return block if block is not None and came_from in block.lines else None


def manager_entered(frame: FrameType) -> Any:
    """The manager whose `__enter__` begins in this frame; None where none does."""
    code = frame.f_code
    return frame.f_locals.get(code.co_varnames[0]) if code.co_name in _ENTERING and code.co_argcount else None


def leave(frame: FrameType, block: Block, entered: Any, error: BaseException) -> None:
    """Leave a block with this exception.

    Args:
        frame: The frame that is about to leave it.
        block: The block.
        entered: Its manager, where that was seen to be entered, as one written in Python is.
        error: The exception.
    """
    manager = entered
    for name in (block.item.context_expr, block.item.optional_vars):
        manager = _named(name, frame) if manager is None else manager
    kind: Any = manager.__class__
    told = (manager, type(error), error, error.__traceback__)
    # What it raises, the lack of such a method included, is of no more interest than it is in a process that dies.
    with contextlib.suppress(Exception, Killed):
        if not block.is_async:
            kind.__exit__(*told)
            return
        leaving = kind.__aexit__(*told)
        try:
            leaving.send(None)  # a lock does not wait when it is freed; what would wait has no loop any more
        finally:
            leaving.close()


def _named(expression: ast.expr | None, frame: FrameType) -> Any:
    """What a name stands for in a frame, or an attribute of one; None for anything that would have to be made anew."""
    if isinstance(expression, ast.Attribute):
        return getattr(_named(expression.value, frame), expression.attr, None)
    if not isinstance(expression, ast.Name):
        return None
    for names in (frame.f_locals, frame.f_globals, vars(builtins)):
        if expression.id in names:
            return names[expression.id]
    return None


@lru_cache(maxsize=64)
def _blocks(file: str) -> dict[int, Block]:
    """The blocks of a file, by the lines at which they end: that of the `with`, or of its last item."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return {}
    blocks: dict[int, Block] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.With | ast.AsyncWith):
            last = node.body[-1]
            lines = range(node.body[0].lineno, (last.end_lineno or last.lineno) + 1)
            item = node.items[-1]
            blocks[item.context_expr.lineno] = Block(lines, item, isinstance(node, ast.AsyncWith))
    return blocks
