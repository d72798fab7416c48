"""The page about testing runs: its code, the tests in it, and the suite on the layer it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from retrysafe.testing._contract.hooks import Hooks

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


@pytest.fixture(scope="module")
def page():
    """What all blocks of the page define, run one after the other."""
    text = PAGE.read_text(encoding="utf-8")
    defined = {"__name__": "testing_page"}
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(PAGE), "exec"), defined)  # noqa: S102  # the page's own code
    return defined


@pytest.mark.parametrize("name", re.findall(r"^def (test_\w+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
def test_what_the_page_tests_holds(page, name):
    page[name]()


def test_the_layer_on_the_page_keeps_every_promise(page):
    assert page["TestDictLayer"].broken_promises() == {}


def test_the_page_names_every_hook_and_flag(page):
    text = PAGE.read_text(encoding="utf-8")
    hooks = {name for name in vars(Hooks) if not name.startswith("_")}
    unnamed = {name for name in hooks if f"`{name}" not in text and f"{name} =" not in text}
    assert unnamed == {"rivals", "rounds"}
