"""What the tests of a fleet share: the store, the workers of each kind, and the ledger of what they executed."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest

from fleet.stores import CacheStore, DynamoDBStore
from fleet.worker import Worker
from servers import programs

HERE = Path(__file__).parent
CACHES = {"valkey_91": CacheStore, "redis_62": CacheStore}
TABLES = {"dynoxide": DynamoDBStore, "dynamodb_local": DynamoDBStore}
STORES = CACHES | TABLES
# One of a kind; the others are for the tests that name them.
USUAL = ["valkey_91", "dynoxide"]
COMMANDS = {
    "python": lambda: [sys.executable, str(HERE / "peer_python.py")],
    "typescript": lambda: [str(programs.node()), str(HERE / "peer_typescript.mjs"), str(HERE.with_name("servers"))],
    "ours": lambda: [sys.executable, str(HERE / "ours.py"), "sync"],
    "ours_async": lambda: [sys.executable, str(HERE / "ours.py"), "async"],
    "ours_plain": lambda: [sys.executable, str(HERE / "ours.py"), "plain"],
}


class Ledger:
    """Who executed what, in the order in which it happened; written by the workers, and survives them."""

    def __init__(self, path):
        self.path = path

    def executions(self):
        """Pairs of key and worker."""
        if not self.path.exists():
            return []
        lines = map(json.loads, self.path.read_text().splitlines())
        return [(line["key"], line["by"]) for line in lines]

    def of(self, key):
        """The workers that executed this key."""
        return [by for executed, by in self.executions() if json.dumps(executed) == json.dumps(key)]


class Fleet:
    """Worker processes: one of each kind that lives as long as the tests, and others for tests that kill them."""

    def __init__(self, ledger):
        self.ledger = ledger
        self._lasting = {}
        self._started = []
        self._numbers = itertools.count()

    def worker(self, kind):
        """The worker of this kind that all tests share; its name in the ledger is its kind."""
        if kind not in self._lasting:
            self._lasting[kind] = self._start(kind, kind)
        return self._lasting[kind]

    def doomed(self, kind):
        """A new worker of this kind, to be killed."""
        return self._start(kind, f"{kind}-{next(self._numbers)}")

    def end_the_stuck(self):
        """End the workers that a failed test left in the midst of a call."""
        for kind, worker in list(self._lasting.items()):
            if worker.is_busy:
                del self._lasting[kind]

    def _start(self, kind, name):
        worker = Worker(COMMANDS[kind](), name, self.ledger.path)
        self._started.append(worker)
        return worker

    def close(self):
        for worker in self._started:
            worker.close()


@pytest.fixture(scope="session", params=USUAL)
def store(request):
    return STORES[request.param](request.getfixturevalue(request.param))


@pytest.fixture(scope="session", params=CACHES)
def cache(request):
    return CACHES[request.param](request.getfixturevalue(request.param))


@pytest.fixture(scope="session", params=["dynoxide"])
def table(request):
    return TABLES[request.param](request.getfixturevalue(request.param))


@pytest.fixture(scope="session")
def ledger(tmp_path_factory):
    return Ledger(tmp_path_factory.mktemp("fleet") / "ledger.jsonl")


@pytest.fixture(scope="session")
def fleet(ledger):
    fleet = Fleet(ledger)
    yield fleet
    fleet.close()


@pytest.fixture(autouse=True)
def _no_worker_is_stuck(fleet):
    yield
    fleet.end_the_stuck()


@pytest.fixture
def key(request):
    """A key of this test's own: a string, whose digest is the same in all languages."""
    return request.node.nodeid
