"""Where the time of our calls goes: cProfile's table of many first calls, or of many replays, in memory.

The profiler makes small functions look dearer than they are. What is certain is the order of the large ones and
the number of calls.
"""

from __future__ import annotations

import cProfile
import pstats

from benchmarks.memory import our_function, payloads

CALLS = 5000
LINES = 35


def show(path: str) -> None:
    """Print the table for `first` calls or for `replay`s."""
    protected = our_function("")
    given = payloads(CALLS)
    if path == "replay":
        for payload in given:
            protected(payload)
    else:
        protected({"id": -1})
    profile = cProfile.Profile()
    profile.enable()
    for payload in given:
        protected(payload)
    profile.disable()
    pstats.Stats(profile).strip_dirs().sort_stats("tottime").print_stats(LINES)
