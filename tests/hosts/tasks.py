"""The shop behind a queue: its function as a task of Celery, given back by a worker that dies."""

from __future__ import annotations

import os

import celery
import shop

app = celery.Celery("shop", broker=os.environ["SHOP_BROKER"], backend=os.environ["SHOP_BROKER"])
app.conf.update(task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)
app.task(name="charge")(shop.charge)
