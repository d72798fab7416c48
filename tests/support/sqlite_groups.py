"""Writes of many threads on an SQLite layer, for tests: made to wait together, and what became of them."""

from __future__ import annotations

import threading
import time

from retrysafe.exceptions import IdempotencyItemNotFoundError
from support.sqlite_support import claim


def queued(layer, count):
    """Wait until so many writes wait for their turn."""
    deadline = time.monotonic() + 30
    while len(layer._connections._groups._queue) < count:
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def nothing(*_):
    """Nothing happens."""


class Together:
    """Writes that come, one after the other, while an earlier one waits for the disk, and so wait together.

    Args:
        layer: Where to.
        disk: What it stands on.
        writes: Each as a method of the layer and a record.
        meanwhile: Called with this when all of them wait.

    Attributes:
        ends: How each ended: None while it is under way, "stored", or what it raised.
    """

    def __init__(self, layer, disk, writes, meanwhile=nothing):
        self.ends = [None] * len(writes)
        self._threads = [
            threading.Thread(target=self._carry_out, args=(number, *write)) for number, write in enumerate(writes)
        ]

        def gather():
            disk.on_sync = nothing
            for number, thread in enumerate(self._threads):
                thread.start()
                queued(layer, number + 1)
            meanwhile(self)

        disk.on_sync = gather
        first = threading.Thread(target=layer._put_record, args=(claim("under way"),))
        first.start()
        for thread in (first, *self._threads):
            thread.join()
        disk.on_sync = nothing

    def _carry_out(self, number, method, record):
        try:
            method(record)
        except Exception as error:  # noqa: BLE001  # to be looked at
            self.ends[number] = error
        else:
            self.ends[number] = "stored"


def claims(layer, count):
    return [(layer._put_record, claim(f"key{number}")) for number in range(count)]


def stored(layer, *keys):
    """Which of these keys have a record."""
    found = []
    for key in keys:
        try:
            layer._get_record(key)
        except IdempotencyItemNotFoundError:
            continue
        found.append(key)
    return found
