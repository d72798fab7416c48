"""Environment variables that are looked up at every call, since they may change in between.

The mapping below `os.environ` answers in a tenth of the time, which every replay would else spend here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

raw: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
"""The environment as it is kept; names and values may be encoded."""


def raw_name(variable: str) -> Any:
    """The name under which `raw` has a variable."""
    if raw is os.environ:
        return variable
    encode: Any = getattr(os.environ, "encodekey", str)
    return encode(variable)
