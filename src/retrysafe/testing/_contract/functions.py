"""Idempotent functions for checks: of the layer's own kind, sync or async, from one coroutine function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrysafe.config import IdempotencyConfig
from retrysafe.idempotency import idempotent_function
from retrysafe.testing._contract.driving import plainly
from retrysafe.testing.failing import AsyncFailingLayer, FailingLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import TypeAlias

    from retrysafe.testing._contract.store import Store

    Function: TypeAlias = Callable[[Any], Coroutine[Any, Any, Any]]


class DeclinedError(Exception):
    """What a function under check raises."""


def failing(store: Store) -> FailingLayer | AsyncFailingLayer:
    """The layer under check behind one that counts, and that fails when asked to."""
    return AsyncFailingLayer(store.layer) if store.is_async else FailingLayer(store.layer)


def protected(
    store: Store, body: Function, layer: FailingLayer | AsyncFailingLayer | None = None, **options: Any
) -> Function:
    """An idempotent function whose only argument is the payload.

    Args:
        store: The layer under check.
        body: What the function does.
        layer: Instead of that layer, one around it.
        **options: Of the `IdempotencyConfig`; lease and window are the suite's where they are not given.
    """
    settings: dict[str, Any] = {
        "expires_after_seconds": store.hooks.window_seconds,
        "in_progress_expires_after_seconds": store.hooks.lease_seconds,
        **options,
    }
    config = IdempotencyConfig(**settings)
    chosen: Any = store.layer if layer is None else layer
    prefix = store.key(body.__name__)
    if store.is_async:

        async def natively(payload: Any) -> Any:
            return await body(payload)

        natively_once: Function = idempotent_function(
            natively, data_keyword_argument="payload", persistence_store=chosen, config=config, key_prefix=prefix
        )
        return natively_once

    def plain(payload: Any) -> Any:
        return plainly(body(payload))

    plain_once: Callable[[Any], Any] = idempotent_function(
        plain, data_keyword_argument="payload", persistence_store=chosen, config=config, key_prefix=prefix
    )

    async def call(payload: Any) -> Any:
        return plain_once(payload)

    return call


def dying(store: Store, **options: Any) -> tuple[Function, list[Any]]:
    """A function whose first run dies and leaves its claim behind, and the list of its runs."""
    layer = failing(store)
    layer.fail("delete")  # the claim is not released, as if the process had been killed
    runs: list[Any] = []

    async def charge(order: Any) -> Any:
        runs.append(order)
        if len(runs) == 1:
            raise DeclinedError("killed")
        return "paid"

    charge_once = protected(store, charge, layer, **options)

    async def call(order: Any) -> Any:
        try:
            return await charge_once(order)
        except DeclinedError:
            return None

    return call, runs


async def raised(work: Coroutine[Any, Any, Any]) -> Exception | None:
    """What it raises, if it does."""
    try:
        await work
    except Exception as error:  # noqa: BLE001  # the check looks at it
        return error
    return None
