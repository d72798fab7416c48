"""The documentation: its code runs, its links lead somewhere, and it leaves out nothing that is public."""

from __future__ import annotations

import contextvars
import inspect
import pkgutil
import re
import sqlite3
import sys
import types
import warnings
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import retrysafe
from retrysafe import IdempotencyConfig, exceptions

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
GUIDES = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *GUIDES]

FENCE = re.compile(r"^(?P<fence>```+)(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (?P<text>.+?)\s*$", re.MULTILINE)


def name_of(page):
    return str(page.relative_to(ROOT))


# Where the pages' code finds its servers, and the fixtures of those that stand there for the tests.
SERVERS = {"redis://localhost:6379/0": "redis_70"}


def blocks(page, servers=()):
    """Every block of Python on the page that is meant to run, as code whose tracebacks show the page's own lines.

    Args:
        page: The page.
        servers: Pairs of an address on the page and the one to be used in its place.
    """
    text = page.read_text(encoding="utf-8")
    for fence in FENCE.finditer(text):
        if fence["info"].strip() == "python":
            line = text.count("\n", 0, fence.start("body"))
            code = fence["body"]
            for shown, real in servers:
                code = code.replace(shown, real)
            yield compile("\n" * line + code, name_of(page), "exec")


@contextmanager
def module_for(page):
    """A module for the page's code, so that its functions and classes are found by name as anywhere else."""
    module = types.ModuleType(f"page_{page.stem.replace('-', '_').lower()}")
    sys.modules[module.__name__] = module
    try:
        yield module
    finally:
        del sys.modules[module.__name__]


def run(codes, module):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for code in codes:
            contextvars.copy_context().run(exec, code, module.__dict__)


def prose(page):
    """The page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page):
    """The anchors of the page's headings, as GitHub makes them."""
    found = set()
    for heading in HEADING.finditer(prose(page)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading["text"]).replace("`", "")
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.add(anchor if anchor not in found else f"{anchor}-1")
    return found


# --- the code -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in [README, *GUIDES] if any(blocks(page))], ids=name_of)
def test_the_code_on_the_page_runs(page, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    servers = [(shown, request.getfixturevalue(name).url) for shown, name in SERVERS.items() if shown in text]
    with module_for(page) as module:
        run(blocks(page, servers), module)


@pytest.mark.parametrize("page", [README, *GUIDES], ids=name_of)
def test_code_that_is_not_run_says_why(page):
    text = page.read_text(encoding="utf-8")
    for fence in FENCE.finditer(text):
        if fence["info"].startswith("python") and fence["info"].strip() != "python":
            assert fence["info"].strip() == "python no-run"
            assert text[: fence.start()].rstrip().endswith("-->"), f"no reason before {fence['body'][:60]!r}"


def test_the_first_example_of_the_readme_charges_once_in_two_calls_and_never_again_in_the_next_process(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    example = next(blocks(README))
    charged = []
    for _ in range(2):
        with module_for(README) as module:
            run([example], module)
            charged.append(list(module.charges))
    assert charged == [["order-1"], []]
    assert capsys.readouterr().out == "True ['order-1']\nTrue []\n"
    with closing(sqlite3.connect("payments.db")) as records:
        assert records.execute("SELECT status, attempt FROM retrysafe").fetchall() == [("COMPLETED", 1)]


def test_the_first_example_of_the_readme_stands_on_the_first_screen_in_12_lines():
    text = README.read_text(encoding="utf-8")
    example = next(fence for fence in FENCE.finditer(text) if fence["info"].strip() == "python")
    assert example["body"].count("\n") <= 12
    assert text.count("\n", 0, example.end()) <= 30


# --- the links ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    for link in LINK.finditer(prose(page)):
        target = link["target"]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        led_to = (page.parent / path).resolve() if path else page
        assert led_to.exists(), f"{name_of(page)} links {target}"
        if anchor:
            assert anchor in anchors(led_to), f"{name_of(page)} links {target}: {sorted(anchors(led_to))}"


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_every_page_stands_on_the_map_of_the_docs(page):
    index = ROOT / "docs" / "index.md"
    assert page == index or f"({page.name})" in prose(index)


def test_every_file_that_is_named_exists():
    for page in PAGES:
        text = prose(page)
        for named in re.findall(r"`((?:benchmarks|docs|examples|requirements|retrysafe|src|tests)/[\w/.*-]*)`", text):
            if named.endswith("/node_modules"):
                continue  # of a set-up clone, where npm could be had; no file of ours
            root = ROOT / "src" if named.startswith("retrysafe/") else ROOT
            assert list(root.glob(named)), f"{name_of(page)} names {named}"


def test_every_dotted_name_leads_to_something():
    for page in [README, *GUIDES]:
        for dotted in re.findall(r"`(retrysafe(?:\.\w+)+)", prose(page)):
            assert pkgutil.resolve_name(dotted) is not None, f"{name_of(page)} names {dotted}"


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        named = re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(named) <= targets, f"{name_of(page)} names {set(named) - targets}"


# --- what is public -----------------------------------------------------------------------------------------------


def mentioned(text):
    return set(re.findall(r"\w+", text))


def test_every_public_name_is_in_the_docs():
    words = set().union(*(mentioned(page.read_text(encoding="utf-8")) for page in [README, *GUIDES]))
    assert sorted(set(retrysafe.__all__) - words) == []


def test_every_exception_is_on_the_page_about_exceptions():
    page = (ROOT / "docs" / "exceptions.md").read_text(encoding="utf-8")
    classes = {
        value.__name__
        for value in vars(exceptions).values()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert sorted(name for name in classes if not name.startswith("_") and f"`{name}`" not in page) == []


def test_every_option_of_the_config_is_in_the_docs():
    words = set().union(*(mentioned(page.read_text(encoding="utf-8")) for page in [README, *GUIDES]))
    options = set(inspect.signature(IdempotencyConfig).parameters)
    assert sorted(options - words) == []


def test_every_event_is_on_the_page_about_events():
    from retrysafe import events  # noqa: PLC0415  # for this test alone

    page = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    kinds = events.IdempotencyEvent.__subclasses__()
    assert [kind.__name__ for kind in kinds if f"`{kind.__name__}`" not in page] == []


def test_the_figures_in_the_readme_are_those_that_were_measured():
    """Rows are told by their first cell; the README quotes a row's ratio."""
    measured = {
        cells[0]: cells[3]
        for cells in table_rows((ROOT / "benchmarks" / "results" / "figures.md").read_text(encoding="utf-8"))
        if len(cells) > 3
    }
    text = README.read_text(encoding="utf-8")
    figures = text[text.index("<!-- figures -->") : text.index("<!-- end of figures -->")]
    quoted = dict(table_rows(figures))
    assert quoted
    assert {what: measured.get(what) for what in quoted} == quoted


def table_rows(text):
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith(("|---", "| |")):
            yield tuple(cell.strip() for cell in line.strip("|").split("|"))
