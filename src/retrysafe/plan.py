"""What is decided when a function is decorated: its name, key prefix, store and rules, and whether they go together.

What does not is refused here, before anything runs.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from retrysafe import lambda_context
from retrysafe.answers import AnswerCodec
from retrysafe.checks import checked_config, checked_layer, checked_prefix, checked_serializer
from retrysafe.events import Listener
from retrysafe.exceptions import IdempotencyConfigError, IdempotencyKeyError
from retrysafe.lease import Lease
from retrysafe.persistence.base import AsyncBasePersistenceLayer
from retrysafe.warn import warn

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.checks import AnyLayer
    from retrysafe.clock import Clock
    from retrysafe.config import IdempotencyConfig
    from retrysafe.local_cache import LocalCache
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.serialization.base import BaseIdempotencySerializer

DEFAULT_LEASE_MS = 30_000
UNRESOLVED_SECONDS = 10 * 365 * 24 * 3600


class Plan:
    """What is decided when decorating.

    Args:
        function_name: What errors and events call the function.
        key_prefix: What stands before `#` in its keys.
        config: The rules.
        codec: How its answers are stored.
        clock: What judges leases where the store has no clock of its own.
        can_renew: Whether the store can move a lease on.
        cache: The local cache, or None.
        peek: Tells a record without I/O, where the store can.

    Attributes:
        claim_seconds: For how long a claim stands, unless its call ends before.
        key_stem: What its keys begin with.
        keys: What makes them of payloads.
        knows_owners: Whether the store is sure to; one that cannot renew may have been written without an idea of them.
    """

    __slots__ = (
        "_default_lease",
        "_given_context",
        "_own_lease",
        "cache",
        "claim_seconds",
        "clock",
        "codec",
        "config",
        "function_name",
        "key_prefix",
        "key_stem",
        "keys",
        "knows_owners",
        "listener",
        "peek",
    )

    def __init__(
        self,
        *,
        function_name: str,
        key_prefix: str,
        config: IdempotencyConfig,
        codec: AnswerCodec,
        clock: Clock,
        can_renew: bool = True,
        cache: LocalCache | None = None,
        peek: Callable[[str], DataRecord | None] | None = None,
    ) -> None:
        self.function_name = function_name
        self.key_prefix = key_prefix
        self.key_stem = f"{key_prefix}#"
        self.config = config
        self.keys = config.keys
        self.codec = codec
        self.clock = clock
        self.cache = cache
        self.peek = peek
        self.knows_owners = can_renew
        self.listener = Listener(function_name, config.event_hook)
        # A run that never ends has no window yet; where a person is to resolve it, its record stands until then.
        self.claim_seconds = config.expires_after_seconds if config.on_abandoned == "retry" else UNRESOLVED_SECONDS
        self._given_context = config.given_lambda_context
        asked = config.in_progress_expires_after_seconds
        self._own_lease = None if asked is None else Lease(round(asked * 1000), renews=can_renew)
        # Without a heartbeat nothing tells a long run from a dead one, so the key is then held for the whole window.
        unrenewed_ms = max(DEFAULT_LEASE_MS, config.expires_after_seconds * 1000)
        self._default_lease = Lease(DEFAULT_LEASE_MS if can_renew else unrenewed_ms, renews=can_renew)

    def lease(self) -> Lease:
        """How long a call that claims its key now may be silent."""
        if self._own_lease is not None:
            return self._own_lease
        context = lambda_context.current() or self._given_context
        if context is None:
            return self._default_lease
        remaining_ms = lambda_context.remaining_ms(context)
        if remaining_ms is None:
            return self._default_lease
        return Lease(remaining_ms, renews=False, end_ms=self.clock.now_ms() + remaining_ms)

    def no_key(self, *, is_given: bool) -> None:
        """Warn of a payload that has no key.

        Args:
            is_given: Whether the key was given, and not selected out of the payload.

        Raises:
            IdempotencyKeyError: Under `raise_on_no_idempotency_key`.
        """
        expression = self.config.event_key_jmespath
        where = f"event_key_jmespath={expression!r} selects nothing" if expression else "the payload is empty"
        if is_given:
            where = "what was given as its key is empty"
        if self.config.raise_on_no_idempotency_key:
            raise IdempotencyKeyError(f"no idempotency key for {self.function_name}: {where}")
        warn(f"no idempotency key for {self.function_name}: {where}; it runs without protection")


def plan_for(
    function: Callable[..., Any],
    store: AnyLayer,
    *,
    config: IdempotencyConfig | None = None,
    serializer: BaseIdempotencySerializer | None = None,
    key_prefix: str | None = None,
    into_json: bool = False,
) -> Plan:
    """Decide for one function, or refuse. Whoever calls a Lambda handler makes JSON of its answer (`into_json`).

    Raises:
        IdempotencyConfigError: The function, the layer and the options don't fit together.
    """
    config = checked_config(config)
    refuse_misfits(function, store)
    name = function_name(function, key_prefix)
    codec = AnswerCodec(function, checked_serializer(serializer), into_json=into_json)
    return plan_on(store, name, _prefix(name, function, store, key_prefix), config, codec)


def plan_on(store: AnyLayer, name: str, key_prefix: str, config: IdempotencyConfig, codec: AnswerCodec) -> Plan:
    """The plan, with what the store says of itself."""
    return Plan(
        function_name=name,
        key_prefix=key_prefix,
        config=config,
        codec=codec,
        clock=store.clock,
        can_renew=store.can_renew,
        cache=config.local_cache(store),
        peek=store._peek_record if store.can_peek else None,
    )


def refuse_misfits(function: Any, store: AnyLayer) -> None:
    """Refuse what can't be idempotent, and a layer of the wrong kind."""
    kind: str = type(function).__name__
    if kind in ("classmethod", "staticmethod"):
        raise IdempotencyConfigError(f"write @{kind} above the idempotent decorator, not below it")
    if isinstance(function, type):
        raise IdempotencyConfigError(f"{function!r} is a class: decorate a function that makes its objects")
    if not callable(function):
        raise IdempotencyConfigError(f"an idempotent function must be callable; it is {function!r}")
    from retrysafe.signatures import is_async, is_generator  # noqa: PLC0415  # loads inspect, for decorating alone

    if is_generator(function):
        raise IdempotencyConfigError(
            f"{function_name(function)} is a generator function: its answer is not known when it returns, so it "
            "cannot be replayed"
        )
    if isinstance(checked_layer(store), AsyncBasePersistenceLayer) and not is_async(function):
        raise IdempotencyConfigError(
            f"persistence_store={type(store).__name__} is asynchronous and {function_name(function)} is not: "
            "use the sync layer, or `async def`"
        )


def function_name(function: Any, default: str | None = None) -> str:
    """`module.qualname`, as it stands in keys; `default` for a callable that has no name of its own."""
    qualname = getattr(function, "__qualname__", None)
    if qualname is not None:
        return f"{_module_of(function)}.{qualname}"
    return default or f"{type(function).__module__}.{type(function).__qualname__}"


def _module_of(function: Any) -> str | None:
    """Where the function was written; a method of a class in C does not say."""
    module: str | None = getattr(function, "__module__", "builtins")
    # So multiprocessing calls the program in a process that it spawned, and the keys there are to be the program's.
    return "__main__" if module == "__mp_main__" else module


_NAMES_OF_MANY: Final = (".<lambda>", "._")
"""How names end that say nothing: of lambdas, and of functions that are registered for what they take."""

_TAKES_ANY: Final = 4 | 8
"""CO_VARARGS and CO_VARKEYWORDS of inspect, which is slow to load."""


def _prefix(name: str, function: Any, store: AnyLayer, key_prefix: str | None) -> str:
    if checked_prefix(key_prefix):
        return key_prefix or ""
    if not hasattr(function, "__qualname__"):
        raise IdempotencyConfigError(f"key_prefix is needed for {function!r}, which has no name of its own")
    lambda_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if name.endswith(_NAMES_OF_MANY) or _is_bare_wrapper(function):
        warn(f"{name} has no key_prefix: all functions that are called so there would share their keys; give it one")
    elif not lambda_name and _module_of(function) == "__main__" and store.reachable_by_others:
        warn(
            f"{name} has no key_prefix: another program with a function of this name would share its keys on this "
            "store, and where this module is imported, it would have others; give it a key_prefix"
        )
    return f"{lambda_name or 'test-func'}.{name}"


def _is_bare_wrapper(function: Any) -> bool:
    """Whether a decorator seems to have made it without `functools.wraps`, and so all that it decorates by one name."""
    code = getattr(function, "__code__", None)
    takes_any = code is not None and not code.co_argcount and code.co_flags & _TAKES_ANY == _TAKES_ANY
    return takes_any and "<locals>" in function.__qualname__ and not hasattr(function, "__wrapped__")
