"""The programs that host a shop's workers, each as a process: two web servers in three ways, and Celery."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from servers.processes import ServerProcess, wait_until

WORKERS = 2


class Host(ServerProcess):
    """A host with two worker processes."""

    command: tuple[str, ...] = ()
    ends_with = ""
    """What it logs when it was told to end."""

    def __init__(self):
        super().__init__(type(self).__name__.lower())

    def arguments(self):
        return [sys.executable, "-m", *(part.format(port=self.port, host=self.host) for part in self.command)]

    @property
    def environment(self):
        paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def is_ready(self):
        with socket.create_connection((self.host, self.port), timeout=1):
            return True

    # --- what happens in the shop ---------------------------------------------------------------------------------

    def hold(self, order_id):
        """The work on this order is not to end before `let_go`."""
        self.directory.joinpath(f"held.{order_id}").touch()

    def let_go(self, order_id):
        self.directory.joinpath(f"held.{order_id}").unlink()

    def executions(self, order_id):
        """Pairs of attempt and process, in their order."""
        ledger = self.directory / "ledger"
        lines = ledger.read_text().splitlines() if ledger.exists() else []
        return [(int(attempt), int(process)) for order, attempt, process in map(str.split, lines) if order == order_id]

    def wait_for_execution(self, order_id):
        """The process that executes the order first."""
        wait_until(lambda: bool(self.executions(order_id)), f"{self.name} executes {order_id}: {self.log}")
        return self.executions(order_id)[0][1]

    def wait_for_its_end(self):
        """Wait until it has noticed that it is to end, and goes about it."""
        wait_until(lambda: self.ends_with in self.log, f"{self.name} ends: {self.log}")


class Uvicorn(Host):
    command = ("uvicorn", "web:asgi", "--host={host}", "--port={port}", f"--workers={WORKERS}")
    ends_with = "Shutting down"


class Gunicorn(Host):
    command = (
        *("gunicorn", "web:wsgi", "--bind={host}:{port}", f"--workers={WORKERS}", "--threads=16", "--preload"),
        "--log-level=debug",
    )
    ends_with = "Handling signal: term"


class GunicornGevent(Host):
    command = (
        *("gunicorn", "web:wsgi", "--bind={host}:{port}", f"--workers={WORKERS}", "--worker-class=gevent"),
        "--log-level=debug",
    )
    ends_with = "Handling signal: term"


class Celery(Host):
    """Without a port: it answers when its workers are there."""

    command = ("celery", "--app=tasks", "worker", f"--concurrency={WORKERS}", "--loglevel=INFO")
    ends_with = "Warm shutdown"

    def __init__(self, broker):
        super().__init__()
        self.broker = broker
        self.launches = 0

    @property
    def environment(self):
        return {**super().environment, "SHOP_BROKER": self.broker.url}

    @property
    def url(self):
        return self.broker.url

    def launch(self):
        self.launches += 1
        super().launch()

    def is_ready(self):
        return self.log.count(" ready.") == self.launches
