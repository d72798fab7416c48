"""A layer that fails on demand, one operation so many times."""

from __future__ import annotations

import functools

from support.flavours import LikeAStore


class FlakyLayer(LikeAStore):
    """Fails one operation so many times, before or after having done it."""

    def __init__(self, operation, times, *, applied=False, error=None):
        super().__init__()
        self.operation, self.times, self.applied = operation, times, applied
        self.error = error or ConnectionError("the network is gone")
        self.calls = []

    def _do(self, operation, argument):
        self.calls.append(operation)
        method = functools.partial(getattr(LikeAStore, operation), self, argument)
        if operation == self.operation and self.times:
            self.times -= 1
            if self.applied:
                method()
            raise self.error
        return method()

    def _get_record(self, idempotency_key):
        return self._do("_get_record", idempotency_key)

    def _put_record(self, data_record):
        self._do("_put_record", data_record)

    def _update_record(self, data_record):
        self._do("_update_record", data_record)

    def _delete_record(self, data_record):
        self._do("_delete_record", data_record)
