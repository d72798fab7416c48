"""Single steps on a cache, for its tests: a connection, a call and the key it made, a record by itself."""

from __future__ import annotations

import redis

from retrysafe import IdempotencyConfig, idempotent_function
from retrysafe.persistence.datarecord import INPROGRESS, DataRecord
from retrysafe.testing import ManualClock


def connected(server, **options):
    return redis.Redis(host=server.host, port=server.port, **options)


def url_of(server):
    return f"redis://{server.host}:{server.port}/0"


def once(layer, body, key, **options):
    return idempotent_function(body, persistence_store=layer, key_prefix=key, config=IdempotencyConfig(**options))


def key_in(server, prefix):
    (key,) = server.command("KEYS", f"{prefix}#*")
    return key.decode()


def record(key, status=INPROGRESS, *, owner="owner-1", window=3600, lease=30, **fields):
    clock = ManualClock()
    now = clock.now_ms()
    lease_end = now + lease * 1000 if status == INPROGRESS else None
    return DataRecord(key, status, now // 1000 + window, lease_end, owner=owner, made_at_ms=now, **fields)
