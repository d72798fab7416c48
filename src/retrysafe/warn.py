"""Warnings that point at the user's line, however many of our own calls lie between."""

from __future__ import annotations

import sys
import warnings


def warn(message: str) -> None:
    """Warn, as if from the nearest caller outside of this package."""
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "retrysafe":
        frame = frame.f_back
        level += 1
    warnings.warn(message, stacklevel=level)
