"""Batches that tests interrupt, and a look at what they leave in the store."""

from __future__ import annotations

from retrysafe import idempotent_batch
from retrysafe.persistence.datarecord import COMPLETED
from support.batches import BY_ID


def recorded(layer):
    """The ids of the orders whose answers are stored; a record that is still running is shown as "running"."""
    return sorted(
        record.response_data if record.stored_status == COMPLETED else "running" for record in layer._records.values()
    )


def over_many(work, layer, config=BY_ID, **options):
    return idempotent_batch(work, persistence_store=layer, config=config, key_prefix="charge", **options)
