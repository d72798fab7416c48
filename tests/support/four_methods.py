"""A layer as users of the peer write one: four methods, no owners, and its own idea of what has lapsed."""

from __future__ import annotations

import threading
import time

from retrysafe import BasePersistenceLayer, DataRecord
from retrysafe.exceptions import IdempotencyItemAlreadyExistsError, IdempotencyItemNotFoundError


class FourMethodLayer(BasePersistenceLayer):
    """Items in a dict, with the attributes that the peer knows.

    Args:
        now: The time in seconds since the epoch.
    """

    def __init__(self, now=time.time):
        super().__init__()
        self.items = {}
        self.now = now
        self.lock = threading.Lock()

    def _get_record(self, idempotency_key):
        try:
            return self._record(idempotency_key, self.items[idempotency_key])
        except KeyError:
            raise IdempotencyItemNotFoundError from None

    def _put_record(self, data_record):
        item = {
            "expiration": data_record.expiry_timestamp or int(self.now()) + self.expires_after_seconds,
            "in_progress_expiration": data_record.in_progress_expiry_timestamp,
            "status": data_record.status,
        }
        if self.payload_validation_enabled:
            item["validation"] = data_record.payload_hash
        key = data_record.idempotency_key
        with self.lock:
            standing = self.items.get(key)
            if standing is None or self._has_lapsed(standing):
                self.items[key] = item
                return
        raise IdempotencyItemAlreadyExistsError(old_data_record=self._record(key, standing))

    def _update_record(self, data_record):
        item = {
            "data": data_record.response_data,
            "expiration": data_record.expiry_timestamp,
            "status": data_record.status,
        }
        if self.payload_validation_enabled:
            item["validation"] = data_record.payload_hash
        with self.lock:
            self.items[data_record.idempotency_key] = {**self.items.get(data_record.idempotency_key, {}), **item}

    def _delete_record(self, data_record):
        with self.lock:
            self.items.pop(data_record.idempotency_key, None)

    def _has_lapsed(self, item):
        if item["expiration"] < int(self.now()):
            return True
        lease_end = item["in_progress_expiration"]
        return item["status"] == "INPROGRESS" and lease_end is not None and lease_end < int(self.now() * 1000)

    def _record(self, key, item):
        return DataRecord(
            idempotency_key=key,
            status=item["status"],
            expiry_timestamp=item["expiration"],
            in_progress_expiry_timestamp=item["in_progress_expiration"],
            response_data=item.get("data", ""),
            payload_hash=item.get("validation", ""),
        )
