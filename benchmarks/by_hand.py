"""A call in memory, written out by hand: what its promises cost, where nothing else is asked for.

One function, one kind of layer, no options: the key, an owner token, a claim under a lock, the heartbeat, the run that
`current_execution()` knows, an answer that is plain JSON, and its record under the lock if the owner is still the same.
A replay is the key, the record that stands, whether its window is over, and its answer read. The library's own pieces
do each of these; what is missing is all that a call may meet besides: duplicates of a call that runs, failures of the
function and of the store, a lost lease, other layers, async, options, events.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from retrysafe import DataRecord, MemoryPersistenceLayer
from retrysafe.answers import _is_plain, _json_pieces, _read_json
from retrysafe.call import Call
from retrysafe.heartbeat import heart
from retrysafe.keys import _encoded, _hash_constructor
from retrysafe.lease import Lease
from retrysafe.nesting import current
from retrysafe.running import Running

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LEASE = Lease(30_000, renews=True)
WINDOW_SECONDS = 3600


def protected_by_hand(function: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """The function, protected by records of its own; the whole payload makes the key."""
    records: dict[str, DataRecord] = {}
    lock, store, digest = threading.Lock(), MemoryPersistenceLayer(), _hash_constructor("md5")

    def charge(payload: dict[str, Any]) -> Any:
        key = "benchmarks.by_hand#" + digest("".join(_encoded(payload, 0)).encode()).hexdigest()
        standing = records.get(key)
        if standing is not None:
            window_end = standing.expiry_timestamp
            if standing.stored_status != "COMPLETED" or window_end is None or window_end < time.time_ns() // 10**9:
                raise KeyError(key)
            return _read_json(standing.response_data, 0)[0]
        owner = os.urandom(16).hex()
        now = time.time_ns() // 1_000_000
        window, lease = now // 1000 + WINDOW_SECONDS, now + LEASE.length_ms
        claim = DataRecord(key, "INPROGRESS", window, lease, "", "", None, owner, 1, "", None, now)
        with lock:
            if key in records:
                raise KeyError(key)
            records[key] = claim
        run = Running()
        run.call = Call()
        run.call.lease, run.claim, run.store, run.lease_end_ms = LEASE, claim, store, lease
        run.lease_lost, run.over, run.outer = False, False, current.get()
        heart.start(run)
        token = current.set(run)
        try:
            value = function(payload)
        finally:
            heart.stop(run)
            run.over = True
            current.reset(token)
        if not _is_plain(value):
            raise TypeError
        data = "".join(_json_pieces(value, 0))
        now = time.time_ns() // 1_000_000
        window = now // 1000 + WINDOW_SECONDS
        done = DataRecord(key, "COMPLETED", window, None, data, "", None, owner, 1, "", None, now)
        with lock:
            if records[key].owner != owner:
                raise KeyError(key)
            records[key] = done
        return value

    return charge
