"""Which code is the user's: that of a function below its decorators, with what is written inside of it."""

from __future__ import annotations

import functools
import inspect
import linecache
from types import CodeType
from typing import Any

MOST_DECORATOR_LINES = 100


def code_of(function: Any) -> CodeType | None:
    """The code of a function, method, partial or callable object, below its decorators; None for one written in C."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    code = getattr(function, "__code__", None)
    if code is None and callable(function) and not isinstance(function, type):
        code = getattr(function.__call__, "__code__", None)
    return code if isinstance(code, CodeType) else None


def def_line(code: CodeType) -> int:
    """The line of a function's `def`, which may stand below decorators."""
    for line in range(code.co_firstlineno, code.co_firstlineno + MOST_DECORATOR_LINES):
        if linecache.getline(code.co_filename, line).lstrip().startswith(("def ", "async def ")):
            return line
    return code.co_firstlineno


def with_inner(code: CodeType) -> set[CodeType]:
    """The code, and that of functions, lambdas and comprehensions inside of it."""
    found = {code}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= with_inner(constant)
    return found
