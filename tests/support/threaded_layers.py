"""Layers for worker threads: one that tells where it was called, and one whose claims wait at a gate."""

from __future__ import annotations

import asyncio
import threading

from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
from retrysafe.persistence.base import BasePersistenceLayer
from support.sqlite_support import claim


class FourMethods(BasePersistenceLayer):
    """A layer without renewal, that tells where it was called."""

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = []

    def called(self, name, answer=None):
        self.calls.append((name, threading.get_ident()))
        return answer

    def _get_record(self, idempotency_key):
        return self.called("get", claim(idempotency_key))

    def _put_record(self, data_record):
        self.called("put")

    def _update_record(self, data_record):
        self.called("update")

    def _delete_record(self, data_record):
        self.called("delete")

    def close(self):
        self.called("close")


class Gated(FourMethods):
    """A layer whose claims wait until they are let through."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)

    def _put_record(self, data_record):
        self.entered.release()
        assert self.gate.wait(30)
        self.called("put")
        if data_record.owner == "unlucky":
            raise IdempotencyItemAlreadyExistsError("words")


async def started(gated, calls=1):
    """Wait until so many claims are in their threads."""
    for _ in range(calls):
        assert await asyncio.to_thread(gated.entered.acquire, timeout=30)
