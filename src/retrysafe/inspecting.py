"""What a function or class says of itself, whatever its annotations name: classes defined later, or never at run time.

From Python 3.14 on annotations are evaluated when they are asked for, all at once, and one name that is not there would
take all of them away, and the signature too. So they are asked for as far as they are known.

Source: https://docs.python.org/3/library/annotationlib.html
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

if sys.version_info >= (3, 14):
    from annotationlib import Format

    _KNOWN: dict[str, Any] = {"format": Format.FORWARDREF}
    _SIGNATURE: dict[str, Any] = {"annotation_format": Format.FORWARDREF}
else:
    _KNOWN: dict[str, Any] = {}
    _SIGNATURE: dict[str, Any] = {}


def signature_of(function: Callable[..., Any], *, follow_wrapped: bool = True) -> inspect.Signature:
    """The signature, as `inspect.signature` has it.

    Raises:
        TypeError: It cannot be called.
        ValueError: It has none, being written in C, say.
    """
    return inspect.signature(function, follow_wrapped=follow_wrapped, **_SIGNATURE)


def annotations_of(thing: Any) -> dict[str, Any]:
    """The annotations of this function or class alone, as `inspect.get_annotations` has them.

    Raises:
        Exception: Whatever evaluating them raises, but for names that are not there.
    """
    ask: Any = inspect.get_annotations
    annotations: dict[str, Any] = ask(thing, **_KNOWN)
    return annotations
