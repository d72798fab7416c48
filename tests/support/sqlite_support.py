"""What the SQLite layer's tests share: records as a call makes them, a clock to set, other processes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord

TESTS = Path(__file__).parents[1]

START_MS = 1_700_000_000_000
LEASE_MS = 60_000
WINDOW_S = 3600


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self, now_ms=START_MS):
        self.ms = now_ms

    def now_ms(self):
        return self.ms


def claim(key="key", owner="a", *, now_ms=START_MS, lease_ms=LEASE_MS, window_s=WINDOW_S, **fields):
    return DataRecord(key, INPROGRESS, now_ms // 1000 + window_s, now_ms + lease_ms, owner=owner, **fields)


def completed(key="key", owner="a", *, now_ms=START_MS, window_s=WINDOW_S, answer='{"paid": 1}', **fields):
    return DataRecord(
        key, fields.pop("status", COMPLETED), now_ms // 1000 + window_s, None, answer, owner=owner, **fields
    )


def start(script, *arguments, options=(), under=()):
    """Another Python process with this library, its standard streams connected to ours; `under` starts it."""
    return subprocess.Popen(
        [*under, sys.executable, *options, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{TESTS.parent / 'src'}:{TESTS}", "PYTHONDONTWRITEBYTECODE": "1"},
    )


def outcome(process, text=None):
    """What the process wrote, once it has ended well."""
    out, err = process.communicate(text, timeout=60)
    assert process.returncode == 0, err
    assert err == ""
    return out
