"""The end of a `with`, as a place to die: an exception raised by a trace function there passes the `with` by.

On its way out of its block a `with` no longer protects itself. So a lock that it holds would stay taken in the test's
process, as no lock does whose process dies; what it holds by name is therefore left here, as an exception would have
left it. What only the `with` itself holds goes with its frame.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import linecache
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import FrameType


class Block(NamedTuple):
    """A block under a `with`.

    Attributes:
        lines: Its lines.
        manager: What it is with.
        is_async: Whether it is an `async with`.
    """

    lines: range
    manager: ast.expr
    is_async: bool


def block_ending(frame: FrameType, came_from: int) -> Block | None:
    """The block that a frame is about to leave by the end of its `with`; None where it is not.

    Args:
        frame: The frame, at the start of a line.
        came_from: The line before that; 0 for none.
    """
    block = _blocks(frame.f_code.co_filename).get(frame.f_lineno)
    return block if block is not None and came_from in block.lines else None


def leave(frame: FrameType, block: Block, error: BaseException) -> None:
    """Leave a block whose manager has a name, with this exception."""
    manager = _named(block.manager, frame)
    if manager is None:
        return
    kind: Any = manager.__class__
    told = (manager, type(error), error, error.__traceback__)
    with contextlib.suppress(Exception):
        if not block.is_async:
            kind.__exit__(*told)
            return
        leaving = kind.__aexit__(*told)
        try:
            leaving.send(None)  # a lock does not wait when it is freed; what would wait has no loop any more
        finally:
            leaving.close()


def _named(expression: ast.expr, frame: FrameType) -> Any:
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
            manager = node.items[-1].context_expr
            # The items before it are still protected there.
            blocks[manager.lineno] = Block(lines, manager, isinstance(node, ast.AsyncWith))
    return blocks
