"""The conformance suite with the oldest clients that are supported, in a process that finds them before the newest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from servers import programs

OLDEST = Path(sys.prefix, "oldest")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("library", "classes"),
    [
        ("redis", "TestDecodingRedisPyOnValkey81 or TestAsyncDecodingRedisPyOnValkey81 or TestAsyncRedisPyOnCluster"),
        ("valkey", "TestValkeyPyOnValkey91 or TestAsyncUrlOnValkey91"),
    ],
    ids=["redis-py", "valkey-py"],
)
def test_the_oldest_client_keeps_every_promise(library, classes):
    if not OLDEST.exists():
        programs.missing("the oldest client", "make .venv/.oldest")
    environment = os.environ | {"PYTHONPATH": str(OLDEST), "PYTHONDONTWRITEBYTECODE": "1"}
    wanted = re.search(rf"^{library}==(\S+)", (ROOT / "requirements/oldest.txt").read_text(), re.MULTILINE)
    asked = [sys.executable, "-c", f"import {library}; print({library}.__version__)"]
    assert subprocess.check_output(asked, env=environment, text=True).strip() == wanted[1]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/cache/test_layers.py", "-k", classes],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert re.search(r"^(\d+) passed", run.stdout, re.MULTILINE), run.stdout
