"""A fleet is moved worker by worker while it works, and workers die meanwhile: each key is executed once.

100 keys are delivered four times each, the first two side by side. Three old workers begin; after 80, 160 and 240
deliveries one of them is replaced by a new one. Two executions kill their own worker, and two workers are killed
from outside at no particular moment; each is started again as what it was.

No lease ends before the last step, so that only what a worker's death touched is executed again. What a dead worker
held is taken over in that last step, by new workers.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter, defaultdict, deque

import pytest

from fleet.worker import Died, Refused

KEYS = 100
REPLACE_AFTER = 80
NEW = ["ours", "ours_async", "ours"]
CRASHES_INSIDE = 2
KILLS_FROM_OUTSIDE = 2
LEASE_S = 600
IN_LAMBDA = {"remaining_ms": LEASE_S * 1000}


class Rollout:
    """The deliveries, and what became of them; three slots work them off, each with one worker at a time."""

    def __init__(self, fleet, store, old, prefix):
        self.fleet, self.store, self.old = fleet, store, old
        self.chance = random.Random(prefix)  # noqa: S311  # the same deliveries in every run
        self.keys = [f"{prefix}-{number}" for number in range(KEYS)]
        self.deliveries = self._shuffled()
        self.crashing = set(self.chance.sample(self.keys, CRASHES_INSIDE))
        self.kills = set(self.chance.sample(range(20, 3 * KEYS), KILLS_FROM_OUTSIDE))
        self.taken = 0
        self.lock = threading.Lock()
        self.answers = defaultdict(list)
        self.deaths = Counter()
        self.set_aside = []
        self.failures = []

    def _shuffled(self):
        later = self.keys * 2
        self.chance.shuffle(later)
        return deque(one for key in self.keys for one in (key, key, later.pop(), later.pop()))

    def run(self):
        slots = [threading.Thread(target=self._work, args=(slot,)) for slot in range(len(NEW))]
        for slot in slots:
            slot.start()
        for slot in slots:
            slot.join()

    def finish(self):
        """Once nobody is old any more, the leases of the dead end, and what they left is delivered again."""
        for key in set(self.set_aside):
            if self.store.record(key)["status"] == "INPROGRESS":
                self.store.pass_time(key, LEASE_S + 1)
        for key, kind in zip(self.set_aside, NEW * len(self.set_aside), strict=False):
            self._deliver(self.fleet.worker(kind), key)

    def _work(self, slot):
        worker, kind = None, None
        while (take := self._take(slot)) is not None:
            key, wanted, options, is_killed = take
            if kind != wanted:
                if worker is not None:
                    worker.close()
                worker, kind = self.fleet.doomed(wanted), wanted
            death = threading.Timer(self.chance.random() / 200, worker.end) if is_killed else None
            if death is not None:
                death.start()
            try:
                self._deliver(worker, key, **options)
            except Died:
                self.deaths[key] += 1
                self.deliveries.append(key)
                kind = None
            if death is not None:
                death.join()
        worker.close()

    def _take(self, slot):
        with self.lock:
            if not self.deliveries:
                return None
            key = self.deliveries.popleft()
            self.taken += 1
            options = {"do": "die"} if key in self.crashing else {}
            self.crashing.discard(key)
            wanted = NEW[slot] if self.taken > REPLACE_AFTER * (slot + 1) else self.old
            return key, wanted, options, self.taken in self.kills

    def _deliver(self, worker, key, **options):
        try:
            answer = worker.call(self.store.spec, key, {"by": worker.name}, **options, **IN_LAMBDA)
        except Refused as refused:
            if refused.error != "IdempotencyAlreadyInProgressError":
                self.failures.append(refused)
            elif self.deaths[key]:
                self.set_aside.append(key)
            else:
                self.deliveries.append(key)
        else:
            # A TypeScript worker gets other workers' answers as text of JSON.
            self.answers[key].append(json.loads(answer)["by"] if isinstance(answer, str) else answer["by"])


@pytest.mark.parametrize(
    ("old", "store"),
    # Many processes have to be started for each; a TypeScript worker starts in a third of a Python worker's time.
    [("typescript", "valkey_91"), ("typescript", "dynoxide"), ("python", "dynoxide")],
    indirect=["store"],
)
def test_each_key_is_executed_once_while_old_workers_are_replaced_and_die(fleet, store, key, old):
    rollout = Rollout(fleet, store, old, key)
    rollout.run()
    rollout.finish()
    assert rollout.failures == []
    assert {one: len(answers) for one, answers in rollout.answers.items()} == dict.fromkeys(rollout.keys, 4)
    assert {one for one, answers in rollout.answers.items() if len(set(answers)) > 1} == set()
    executions = [(one, by) for one, by in fleet.ledger.executions() if one in rollout.keys]
    executed = Counter(one for one, _ in executions)
    for one in rollout.keys:
        assert 1 <= executed[one] <= 1 + rollout.deaths[one]
    assert rollout.deaths.total() >= CRASHES_INSIDE
    by_old = {one for one, by in executions if by.startswith(old)}
    assert KEYS / 4 < len(by_old) < KEYS
