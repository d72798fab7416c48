"""What the hosts run: one function that is safe to retry, and what it leaves behind.

A host has a directory of its own: in it are the records, the ledger of what was executed, by whom and in which attempt,
and a file `held.ID` for as long as the work on the order ID is not to end.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from retrysafe import IdempotencyConfig, current_execution, idempotent_function

once = idempotent_function(
    persistence_store="sqlite:///records.db",
    key_prefix="shop",
    config=IdempotencyConfig(
        in_progress_expires_after_seconds=3, on_in_progress="wait", wait_timeout_seconds=60, expires_after_seconds=600
    ),
)


def begun(order_id: str) -> int:
    """The attempt; written down, as the effect that must not happen twice."""
    attempt = current_execution().attempt
    with Path("ledger").open("a", encoding="utf-8") as ledger:
        ledger.write(f"{order_id} {attempt} {os.getpid()}\n")
    return attempt


def is_held(order_id: str) -> bool:
    return Path(f"held.{order_id}").exists()


@once
def charge(order_id: str) -> dict[str, int]:
    attempt = begun(order_id)
    while is_held(order_id):
        time.sleep(0.01)
    return {"attempt": attempt}


@once
async def charge_async(order_id: str) -> dict[str, int]:
    attempt = begun(order_id)
    while is_held(order_id):  # noqa: ASYNC110  # it is another process that lets go
        await asyncio.sleep(0.01)
    return {"attempt": attempt}
