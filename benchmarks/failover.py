"""What a failover loses: acknowledged claims and answers that the new master does not have.

    python -m benchmarks.failover [failovers of each kind, 20]

Threads make protected calls as fast as they can, all on one master, which is killed (SIGKILL). Once another is in its
place, every call is looked up there: whether the claim of each function that ran is known, and the answer of each call
that returned one. All servers are on this machine, and what a killed process has handed to its system still arrives, so
a mere kill shows the least that can be lost. In the other rows the master and its replicas have lost each other some
time before it is killed, as where a machine or a network fails.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import statistics
import sys
import threading
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from retrysafe import IdempotencyConfig, idempotent_function
from retrysafe.exceptions import IdempotencyBaseError
from retrysafe.persistence.cache import CachePersistenceLayer
from servers import RedisCluster, RedisSentinel, programs
from servers.processes import end_guard, wait_until

THREADS = 4
LEASE_SECONDS = 5.0
BEFORE_THE_KILL_SECONDS = 0.5
LINK_LOST_SECONDS = (0.0, 0.1)
AFTER_THE_FAILOVER_SECONDS = 0.3
# A hash tag: all keys in one slot of a cluster, so on the master that is killed.
PREFIX = "{failover}"
OPTIONS = "socket_timeout=2&socket_connect_timeout=1"


class Sentinels(RedisSentinel):
    """A master and two replicas; a master that comes back is told at once whom to follow."""

    title = "Sentinel, 2 replicas"

    def __init__(self):
        super().__init__(programs.redis_70())

    def master_now(self):
        """Who serves the keys."""
        return self.master

    @property
    def layer_url(self):
        """For the layer."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.addresses)
        return f"redis+sentinel://{hosts}/{self.name}?{OPTIONS}"

    def bring_back(self, gone):
        """Start it, and wait until the next failover may come."""
        master = self.master
        gone.options["replicaof"] = f"{master.host} {master.port}"
        gone.start()
        self.wait_until_complete()


class Cluster(RedisCluster):
    """Three masters with a replica each."""

    title = "cluster, 1 replica each"

    def __init__(self):
        super().__init__(programs.redis_70(), replicas=1)

    @property
    def layer_url(self):
        """For the layer."""
        return f"redis+cluster://{','.join(f'{node.host}:{node.port}' for node in self.nodes)}?{OPTIONS}"

    def master_now(self):
        """Who serves the keys."""
        return self.master_of(PREFIX)

    def _agrees_without(self, gone):
        try:
            return super()._agrees_without(PREFIX, gone)
        except (LookupError, StopIteration):  # nobody is known to serve the key
            return False

    def bring_back(self, gone):
        """Start it, and wait until the next failover may come."""
        gone.start()
        self.wait_until_complete()


def work_until(stop, charge, answered, errors, name):
    for i in itertools.count():
        if stop.is_set():
            return
        order = f"{name} {i}"
        try:
            charge(order=order)
        except IdempotencyBaseError as error:
            errors[order] = error
            time.sleep(0.01)
        else:
            answered.append(order)


def one_failover(world, min_replicas, link_lost):
    began, answered, errors, stop = [], [], {}, threading.Event()
    layer = CachePersistenceLayer(world.layer_url, min_replicas=min_replicas, replica_timeout_seconds=0.5)

    @idempotent_function(
        data_keyword_argument="order",
        persistence_store=layer,
        config=IdempotencyConfig(in_progress_expires_after_seconds=LEASE_SECONDS),
        key_prefix=PREFIX,
    )
    def charge(order):
        began.append(order)
        return order

    threads = [
        threading.Thread(target=work_until, args=(stop, charge, answered, errors, f"{uuid.uuid4()} {i}"))
        for i in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    time.sleep(BEFORE_THE_KILL_SECONDS)
    gone = world.master_now()
    if link_lost:
        gone.command("ACL", "SETUSER", "default", "-psync", "-sync")
        gone.command("CLIENT", "KILL", "TYPE", "replica")
        time.sleep(link_lost)
    gone.kill()
    killed = time.perf_counter()
    wait_until(lambda: world._agrees_without(gone), "another master")
    outage = time.perf_counter() - killed
    successor = world.master_now()
    time.sleep(AFTER_THE_FAILOVER_SECONDS)
    stop.set()
    for thread in threads:
        thread.join()
    layer.close()
    standing = statuses_on(successor)
    world.bring_back(gone)
    told = {order for order, error in errors.items() if getattr(error, "response", None) is not None}
    return {
        "claims": len(began),
        "claims lost": sum(key_of(order) not in standing for order in began),
        "answers": len(answered),
        "answers lost": sum(standing.get(key_of(order)) != "COMPLETED" for order in answered),
        "errors with the answer": len(told),
        "unexplained": len(set(began) - set(answered) - told),
        "outage": outage,
    }


def statuses_on(server):
    """The status of every record on the server, by its key; the server is empty then."""
    found = {}
    with server.connect() as connection:
        cursor = None
        while cursor != b"0":
            cursor, keys = connection.command("SCAN", cursor or "0", "COUNT", 10_000)
            records = connection.command("MGET", *keys) if keys else []
            found |= {
                key.decode(): json.loads(record)["status"]
                for key, record in zip(keys, records, strict=True)
                if record is not None
            }
        connection.command("FLUSHALL")
    return found


def key_of(order):
    return f"{PREFIX}#{hashlib.md5(json.dumps(order).encode(), usedforsecurity=False).hexdigest()}"


def row(name, min_replicas, link_lost, results):
    total = {what: sum(result[what] for result in results) for what in results[0]}
    if total["unexplained"]:
        raise RuntimeError("a function ran, and its caller got neither the answer nor an error with it")
    lossy = sum(bool(result["claims lost"] or result["answers lost"]) for result in results)
    outage = statistics.median(result["outage"] for result in results)
    fault = f"cut off from its replicas, killed {link_lost * 1000:.0f} ms later" if link_lost else "killed"
    cells = [name, fault, min_replicas, f"{lossy} of {len(results)}"]
    cells += [f"{total[what]:,}" for what in ("claims", "claims lost", "answers", "answers lost")]
    cells += [f"{total['errors with the answer']:,}", f"{outage:.1f} s"]
    return f"| {' | '.join(map(str, cells))} |"


def measure(make_world, failovers):
    world = make_world()
    try:
        world.start()
        for link_lost, min_replicas in itertools.product(LINK_LOST_SECONDS, (0, 1)):
            results = []
            for _ in range(failovers):
                results.append(one_failover(world, min_replicas, link_lost))
                print(".", end="", file=sys.stderr, flush=True)
            print(file=sys.stderr)
            print(row(world.title, min_replicas, link_lost, results), flush=True)
    finally:
        world.stop()


def main():
    logging.getLogger("retrysafe").addHandler(logging.NullHandler())
    failovers = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(
        "| servers | the master | `min_replicas` | failovers with a loss | claims acknowledged | lost "
        "| answers acknowledged | lost | errors with the answer | until another master serves |\n"
        "|---|---|---|---|---|---|---|---|---|---|"
    )
    try:
        measure(Sentinels, failovers)
        measure(Cluster, failovers)
    finally:
        end_guard()


if __name__ == "__main__":
    main()
