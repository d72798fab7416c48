"""A layer as in the peer's documentation for layers of one's own, and batches of one item."""

from __future__ import annotations

import time

from retrysafe import BasePersistenceLayer, DataRecord, idempotent_batch
from retrysafe.exceptions import IdempotencyItemAlreadyExistsError, IdempotencyItemNotFoundError


class PeerLayer(BasePersistenceLayer):
    """As in the peer's documentation for layers of one's own: a dict of attributes, and two reads of `self`."""

    def __init__(self):
        super().__init__()
        self.items = {}

    def _get_record(self, idempotency_key) -> DataRecord:
        try:
            item = self.items[idempotency_key]
        except KeyError:
            raise IdempotencyItemNotFoundError from None
        return self._record(item)

    def _record(self, item):
        return DataRecord(
            idempotency_key=item["id"],
            status=item["status"],
            expiry_timestamp=item["expiration"],
            in_progress_expiry_timestamp=item.get("in_progress_expiration"),
            response_data=item.get("data"),
            payload_hash=item.get("validation"),
        )

    def _put_record(self, data_record: DataRecord) -> None:
        standing = self.items.get(data_record.idempotency_key)
        now = time.time()
        if standing and not (
            standing["expiration"] < now
            or (standing["status"] == "INPROGRESS" and standing.get("in_progress_expiration", 1e99) < now * 1000)
        ):
            raise IdempotencyItemAlreadyExistsError
        item = {
            "id": data_record.idempotency_key,
            "status": data_record.status,
            "expiration": data_record.expiry_timestamp,
            "in_progress_expiration": data_record.in_progress_expiry_timestamp,
        }
        if self.payload_validation_enabled:
            item["validation"] = data_record.payload_hash
        self.items[data_record.idempotency_key] = item

    def _update_record(self, data_record: DataRecord) -> None:
        item = self.items[data_record.idempotency_key]
        item |= {
            "data": data_record.response_data,
            "status": data_record.status,
            "expiration": data_record.expiry_timestamp,
        }
        assert self.expires_after_seconds > 0

    def _delete_record(self, data_record: DataRecord) -> None:
        self.items.pop(data_record.idempotency_key, None)


def in_batch(flavour, work, options):
    batch = flavour.caller(idempotent_batch(flavour.body(work), **options))
    return lambda n: batch([n])
