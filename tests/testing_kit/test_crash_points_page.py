"""The page about testing a handler: its report is what a user sees, and its test for pytest holds."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from retrysafe.testing import crash_points
from retrysafe.testing.crash_report import Verdict

PAGE = (Path(__file__).parents[2] / "docs" / "testing-your-handler.md").read_text(encoding="utf-8")


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The page's first block, as the file that it says it is, and the function that it calls safe."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "shop.py").write_text(blocks[0])
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("shop", "shop.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "shop", module)
    spec.loader.exec_module(module)
    module.crash_points = crash_points
    exec(next(block for block in blocks if "def pay_once" in block), module.__dict__)  # noqa: S102  # the page's own
    exec(next(block for block in blocks if "(crash_points)" in block), module.__dict__)  # noqa: S102  # the same
    return module


def test_the_report_on_the_page_is_the_one_that_a_user_sees(shop):
    shown = re.search(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]
    shop.provider.reset()
    assert f"{crash_points(shop.pay, 'order-1', 4200, effects=shop.provider.charges)}\n" == shown


def test_the_test_with_the_fixture_holds(shop):
    shop.test_paying_twice_is_safe(crash_points)


def test_the_page_names_every_option_and_every_verdict():
    import inspect  # noqa: PLC0415  # for this test alone
    from typing import get_args  # noqa: PLC0415  # the same

    options = set(inspect.signature(crash_points).parameters) - {"func", "args"}
    assert {option for option in options if f"`{option}" not in PAGE} == set()
    assert {verdict for verdict in get_args(Verdict) if f"| `{verdict}` |" not in PAGE} == set()
