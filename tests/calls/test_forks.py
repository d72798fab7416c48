"""A function that forks: its run goes on in the parent, and the child changes nothing of the parent's records."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork, which Windows does not have")

PROGRAM = """
import asyncio, contextlib, os, sqlite3, sys

from retrysafe import IdempotencyConfig, idempotent_batch, idempotent_block, idempotent_function
from retrysafe.exceptions import IdempotencyLeaseLostError
from retrysafe.persistence import async_layer_from_url, layer_from_url

kind, way, ending = sys.argv[1:]
is_async, parent, ran = kind == "async", os.getpid(), []
layer = (async_layer_from_url if is_async else layer_from_url)("sqlite:///records.db")
options = {"persistence_store": layer, "key_prefix": "fork", "config": IdempotencyConfig(replay_exceptions=[OSError])}


def statuses():
    with contextlib.closing(sqlite3.connect("records.db")) as records:
        return [status for status, in records.execute("SELECT status FROM retrysafe")]


def work(item):
    ran.append(item)
    if item != "forks":
        return item
    child = os.fork()
    if child:
        before, (_, status) = statuses(), os.waitpid(child, 0)
        print("child", os.waitstatus_to_exitcode(status), "changed" if statuses() != before else "changed nothing")
    elif ending == "exits":
        sys.exit("child")
    elif ending == "fails to start a program":
        os.execvp("/nowhere", ["nowhere"])
    return "answer"


async def work_async(item):
    return work(item)


def call():
    function = work_async if is_async else work
    if way == "batch":
        return idempotent_batch(function, **options)(["first", "forks", "last"])
    return idempotent_function(function, data_keyword_argument="item", **options)(item="forks")


async def call_async():
    if way == "block":
        async with idempotent_block("forks", **options) as block:
            block.answer = work("forks")
        return block.answer
    return await call()


def call_sync():
    if way == "block":
        with idempotent_block("forks", **options) as block:
            block.answer = work("forks")
        return block.answer
    return call()


async def main():
    try:
        return await call_async() if is_async else call_sync()
    except BaseException as error:
        if os.getpid() == parent:
            raise
        print(type(error).__name__, getattr(error, "response", ""), ran, flush=True)
        os._exit(7)


result = asyncio.run(main())
print("parent", [each.answer for each in result] if way == "batch" else result, statuses())
"""


def forked(tmp_path, *options):
    """What parent and child print."""
    if sys.version_info >= (3, 14) and options[:2] == ("async", "batch"):
        pytest.skip("asyncio itself runs no other task in a child that is forked in the midst of its loop")
    return ran(tmp_path, PROGRAM, *options)


def ran(tmp_path, program, *options):
    """What it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("ending", "error"), [("exits", "SystemExit"), ("fails to start a program", "FileNotFoundError")]
)
@pytest.mark.parametrize("way", ["single", "block", "batch"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_child_that_fails_frees_no_key_and_stores_no_failure(kind, way, ending, error, tmp_path):
    in_child, seen, in_parent = forked(tmp_path, kind, way, ending)
    assert in_child == f"{error}  {['first', 'forks'] if way == 'batch' else ['forks']}"
    assert seen == "child 7 changed nothing"
    answers, statuses = (
        ("answer", ["COMPLETED"]) if way != "batch" else (["first", "answer", "last"], 3 * ["COMPLETED"])
    )
    assert in_parent == f"parent {answers} {statuses}"


@pytest.mark.parametrize("way", ["single", "block"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_child_that_returns_stores_no_answer(kind, way, tmp_path):
    in_child, seen, in_parent = forked(tmp_path, kind, way, "returns")
    assert in_child == "IdempotencyLeaseLostError answer ['forks']"
    assert seen == "child 7 changed nothing"
    assert in_parent == "parent answer ['COMPLETED']"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_child_that_returns_into_a_batch_runs_none_of_its_items(kind, tmp_path):
    in_child, seen, in_parent = forked(tmp_path, kind, "batch", "returns")
    assert in_child == "IdempotencyLeaseLostError answer ['first', 'forks']"
    assert seen == "child 7 changed nothing"
    assert in_parent == f"parent {['first', 'answer', 'last']} {3 * ['COMPLETED']}"


def test_a_child_waits_for_no_lock_that_a_thread_of_its_parent_held():
    program = """
        import os, signal, threading
        from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_function

        layer, config = MemoryPersistenceLayer(), IdempotencyConfig(use_local_cache=True)
        function = idempotent_function(lambda n: n, persistence_store=layer, key_prefix="fork", config=config)
        taken, let_go = threading.Event(), threading.Event()

        def hold():
            with layer._lock:
                taken.set()
                let_go.wait()

        threading.Thread(target=hold).start()
        taken.wait()
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # what hangs is killed
            os._exit(function(3) + function(3))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        let_go.set()
    """
    ran = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("6\n", "")


LOCAL_CACHE = """
import os, signal, threading
from retrysafe.local_cache import LocalCache
from retrysafe.persistence.datarecord import COMPLETED, DataRecord


class Looked(DataRecord):
    def window_over(self, now_ms):
        inside.set()
        return leave.wait(60)


inside, leave, cache = threading.Event(), threading.Event(), LocalCache(2)
cache.put(Looked("a", COMPLETED, 9))
thread = threading.Thread(target=cache.get, args=("a", 1))
thread.start()
inside.wait()
child = os.fork()
if not child:
    signal.alarm(30)
    cache.put(DataRecord("b", COMPLETED, 9))
    os._exit(cache.get("b", 1) is None)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
leave.set()
thread.join()
"""


def test_a_child_uses_the_local_cache_that_a_thread_of_its_parent_was_in(tmp_path):
    assert ran(tmp_path, LOCAL_CACHE) == ["0"]
