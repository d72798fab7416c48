"""The config: every choice about idempotency that is not a store, checked where it is made.

It is fixed once made, and holds nothing of any call, so one config serves any number of functions and threads.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, Literal

from retrysafe import lambda_context as _lambda
from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.keys import PayloadKeys
from retrysafe.local_cache import LocalCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from retrysafe.events import IdempotencyEvent
    from retrysafe.hook import IdempotentHookFunction

OnInProgress = Literal["raise", "wait"]
OnAbandoned = Literal["retry", "raise"]

SHORTEST_SECONDS = 0.001  # leases are kept in whole milliseconds
LONGEST_SECONDS = 100 * 365 * 24 * 3600  # a hundred years: what is meant to be for ever


class IdempotencyConfig:
    """What counts as the same call, for how long, and what a duplicate gets.

    Args:
        event_key_jmespath: JMESPath expression for the part of the payload that makes the key. Default: all of it.
        payload_validation_jmespath: JMESPath expression for the part of the payload that must be the same in every
            duplicate. Default: no validation.
        jmespath_options: A `jmespath.Options`, or the keyword arguments for one. Default: options with the
            functions `powertools_json`, `powertools_base64` and `powertools_base64_gzip`.
        raise_on_no_idempotency_key: Refuse a payload without a key, instead of running unprotected with a warning.
            Default: False.
        expires_after_seconds: The window: whole seconds from completion for which duplicates get the answer. Default:
            3600.
        use_local_cache: Keep answers in this process too, so that a replay need not ask the store. Default: False.
        local_cache_max_items: How many records that cache keeps, per layer. Default: 256.
        hash_function: Any name in hashlib with a fixed length, for keys and payload hashes. Whoever writes the
            payloads can make two with the same md5 (RFC 6151, 2), the default; choose "sha256" where that would gain
            them something.
        lambda_context: The Lambda context whose remaining time gives the lease its length. `@idempotent` takes it
            from each invocation; in other functions prefer `register_lambda_context`.
        response_hook: Called with a replayed answer and its record; what it returns or raises is what the caller gets.
        in_progress_expires_after_seconds: The lease, in seconds: how long a run may be silent before its key can
            be taken over. Default: in Lambda the invocation's remaining time, elsewhere, and on Lambda Managed
            Instances, 30 s. Outside of the Lambda default, it is renewed while the function runs.
        on_in_progress: A duplicate that meets a running call gets `IdempotencyAlreadyInProgressError` ("raise", the
            default), or waits for its answer ("wait").
        wait_timeout_seconds: The longest wait, in seconds. Default: 30.
        on_abandoned: A call that meets a run which never ended, its lease over, takes the key over and runs
            ("retry", the default), or gets `IdempotencyAbandonedError` and nothing runs until a person resolves it
            ("raise").
        replay_exceptions: Exceptions that are answers: stored, and raised again for duplicates. One class, or several.
            Default: none.
        event_hook: Called with every `retrysafe.events.IdempotencyEvent`; a plain function, which nobody awaits. What
            it raises is logged and changes nothing.

    Raises:
        IdempotencyConfigError: An option is wrong; names it and its value.
    """

    def __init__(
        self,
        event_key_jmespath: str = "",
        payload_validation_jmespath: str = "",
        jmespath_options: Any = None,
        raise_on_no_idempotency_key: bool = False,
        expires_after_seconds: int = 3600,
        use_local_cache: bool = False,
        local_cache_max_items: int = 256,
        hash_function: str = "md5",
        lambda_context: Any = None,
        response_hook: IdempotentHookFunction | None = None,
        *,
        in_progress_expires_after_seconds: float | None = None,
        on_in_progress: OnInProgress = "raise",
        wait_timeout_seconds: float = 30.0,
        on_abandoned: OnAbandoned = "retry",
        replay_exceptions: Iterable[type[Exception]] | type[Exception] = (),
        event_hook: Callable[[IdempotencyEvent], object] | None = None,
    ) -> None:
        self.event_key_jmespath: Final = event_key_jmespath
        self.payload_validation_jmespath: Final = payload_validation_jmespath
        self.jmespath_options: Final = jmespath_options
        self.raise_on_no_idempotency_key: Final = _flag("raise_on_no_idempotency_key", raise_on_no_idempotency_key)
        self.expires_after_seconds: Final = _whole("expires_after_seconds", expires_after_seconds)
        self.use_local_cache: Final = _flag("use_local_cache", use_local_cache)
        self.local_cache_max_items: Final = _whole("local_cache_max_items", local_cache_max_items)
        self.hash_function: Final = hash_function
        self.response_hook: Final = _hook("response_hook", response_hook, "response", "idempotent_data")
        self.in_progress_expires_after_seconds: Final = (
            None
            if in_progress_expires_after_seconds is None
            else _seconds("in_progress_expires_after_seconds", in_progress_expires_after_seconds)
        )
        self.on_in_progress: Final[OnInProgress] = _choice("on_in_progress", on_in_progress, "raise", "wait")
        self.wait_timeout_seconds: Final = _seconds("wait_timeout_seconds", wait_timeout_seconds)
        self.on_abandoned: Final[OnAbandoned] = _choice("on_abandoned", on_abandoned, "retry", "raise")
        self.replay_exceptions: Final = _exceptions(replay_exceptions)
        self.event_hook: Final = _hook("event_hook", event_hook, "event")
        self.keys: Final = PayloadKeys(
            event_key_jmespath=event_key_jmespath,
            payload_validation_jmespath=payload_validation_jmespath,
            jmespath_options=jmespath_options,
            hash_function=hash_function,
        )
        self.given_lambda_context: Final = lambda_context
        self._caches: dict[int, tuple[weakref.ref[Any], LocalCache]] = {}
        self._made = True

    def __setattr__(self, name: str, value: object) -> None:
        # What a subclass adds to it is its own affair.
        if hasattr(self, "_made") and (type(self) is IdempotencyConfig or hasattr(self, name)):
            raise IdempotencyConfigError(f"a config is fixed once made; {name}={value!r} needs another one")
        super().__setattr__(name, value)

    @property
    def lambda_context(self) -> Any:
        """The Lambda context of the invocation under way, or the one given to the constructor, or None."""
        return _lambda.current() or self.given_lambda_context

    def register_lambda_context(self, lambda_context: Any) -> None:
        """Say which Lambda invocation is under way, for functions called in it.

        It holds for the running thread or task, for all configs, until it is called again; in Lambda no longer than
        the invocation. The config itself keeps nothing.

        Args:
            lambda_context: The context that Lambda gave to the handler.
        """
        _lambda.register(lambda_context)

    def local_cache(self, persistence_store: Any) -> LocalCache | None:
        """The local cache for records of this layer; None where `use_local_cache` is off."""
        if not self.use_local_cache:
            return None
        caches, key = self._caches, id(persistence_store)
        known = caches.get(key)
        if known is None:
            # The layer's end takes the entry out before another object can have its id.
            layer = weakref.ref(persistence_store, lambda _: caches.pop(key, None))
            known = caches.setdefault(key, (layer, LocalCache(self.local_cache_max_items)))
        return known[1]


def _whole(option: str, value: object) -> int:
    # timedelta.total_seconds() gives whole seconds as a float.
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(whole, int) and not isinstance(whole, bool) and 1 <= whole <= LONGEST_SECONDS:
        return whole
    raise IdempotencyConfigError(f"{option} must be a whole number from 1 to {LONGEST_SECONDS}; it is {value!r}")


def _flag(option: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise IdempotencyConfigError(f"{option} must be True or False; it is {value!r}")


def _seconds(option: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and SHORTEST_SECONDS <= value <= LONGEST_SECONDS:
        return value
    raise IdempotencyConfigError(
        f"{option} must be a number of seconds from {SHORTEST_SECONDS} to {LONGEST_SECONDS}; it is {value!r}"
    )


def _choice(option: str, value: Any, *choices: str) -> Any:
    if value in choices:
        return value
    raise IdempotencyConfigError(f"{option} must be one of {', '.join(map(repr, choices))}; it is {value!r}")


def _hook(option: str, value: Any, *given: str) -> Any:
    if value is None:
        return value
    from retrysafe.signatures import checked_function  # noqa: PLC0415  # loads inspect, and most have no hook

    return checked_function(option, value, *given)


def _exceptions(value: Any) -> tuple[type[Exception], ...]:
    try:
        classes = (value,) if isinstance(value, type) else tuple(value)
    except TypeError:
        raise IdempotencyConfigError(f"replay_exceptions must be classes of exceptions; it is {value!r}") from None
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, Exception)):
            raise IdempotencyConfigError(
                f"replay_exceptions must hold classes of exceptions (subclasses of Exception); it has {each!r}"
            )
    return classes
