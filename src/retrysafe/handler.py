"""One call of one function: what the decorators use, and what the author of a framework calls directly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from retrysafe.call import begin_call
from retrysafe.checks import wrong_store
from retrysafe.drivers import run, run_async
from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.persistence import async_layer_from_url, layer_from_url
from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
from retrysafe.plan import plan_for
from retrysafe.running import answered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from retrysafe.checks import AnyLayer
    from retrysafe.config import IdempotencyConfig
    from retrysafe.serialization.base import BaseIdempotencySerializer


_NEVER_CALLED: Final = (
    "_get_function_response",
    "_get_idempotency_record",
    "_get_remaining_time_in_millis",
    "_handle_for_status",
    "_process_idempotency",
)
"""The steps of Powertools' handler, which frameworks override there."""


class IdempotencyHandler:
    """One call of a synchronous function.

    Args:
        function: What runs, once per key.
        function_payload: What the key and the payload hash are made of.
        config: The rules.
        persistence_store: Where the record is kept; a synchronous layer.
        output_serializer: How the answer becomes a dict and comes back. Default: as it is.
        key_prefix: What stands before `#` in the key. Default: Lambda's function name, module and qualname.
        function_args: Positional arguments for the function.
        function_kwargs: Keyword arguments for it.

    Raises:
        IdempotencyConfigError: The function, the layer and the options don't fit together. When a subclass is defined:
            it overrides what only Powertools calls.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        written = cls.__mro__[: cls.__mro__.index(IdempotencyHandler)]  # a mixin's steps are not called either
        dead = [name for name in _NEVER_CALLED if any(name in vars(each) for each in written)]
        if dead:
            raise IdempotencyConfigError(
                f"{cls.__qualname__} overrides {', '.join(dead)}, which only Powertools calls and retrysafe does not"
            )

    def __init__(
        self,
        function: Callable[..., Any],
        function_payload: Any,
        config: IdempotencyConfig,
        persistence_store: BasePersistenceLayer,
        output_serializer: BaseIdempotencySerializer | None = None,
        key_prefix: str | None = None,
        function_args: Sequence[Any] | None = None,
        function_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(persistence_store, BasePersistenceLayer):
            raise wrong_store(persistence_store, "a synchronous layer")
        self._plan = plan_for(
            function, persistence_store, config=config, serializer=output_serializer, key_prefix=key_prefix
        )
        from retrysafe.signatures import is_async  # noqa: PLC0415  # loads inspect, for constructing alone

        if is_async(function):
            raise IdempotencyConfigError(f"{self._plan.function_name} is asynchronous: use AsyncIdempotencyHandler")
        self._function = function
        self._payload = function_payload
        self._store = persistence_store
        self._args, self._kwargs = _checked_arguments(function_args, function_kwargs)

    def handle(self, is_replay: bool = False, *, execution_id: str | None = None) -> Any:
        """Run the function, or give the answer of an earlier run.

        Args:
            is_replay: Whether a durable execution is being replayed: its own record INPROGRESS then passes.
            execution_id: The name of the durable execution that the call belongs to. Without it no record is known to
                be its own.

        Returns:
            The function's answer, or the first one's.

        Raises:
            IdempotencyBaseError: See `retrysafe.exceptions`; else whatever the function raises.
        """
        call = begin_call(self._plan, self._payload, execution_id=execution_id, is_replay=is_replay)
        if call is None:
            return self._function(*self._args, **self._kwargs)
        return run(call, self._store, self._function, self._args, self._kwargs)


class AsyncIdempotencyHandler:
    """One call of an asynchronous function: `IdempotencyHandler`'s twin, with `await handler.handle()`.

    The layer may be asynchronous, or synchronous: it is then called through worker threads.
    """

    def __init__(
        self,
        function: Callable[..., Awaitable[Any]],
        function_payload: Any,
        config: IdempotencyConfig,
        persistence_store: BasePersistenceLayer | AsyncBasePersistenceLayer,
        output_serializer: BaseIdempotencySerializer | None = None,
        key_prefix: str | None = None,
        function_args: Sequence[Any] | None = None,
        function_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._plan = plan_for(
            function, persistence_store, config=config, serializer=output_serializer, key_prefix=key_prefix
        )
        self._function = function
        self._payload = function_payload
        self._store = awaitable_layer(persistence_store)
        self._args, self._kwargs = _checked_arguments(function_args, function_kwargs)

    async def handle(self, is_replay: bool = False, *, execution_id: str | None = None) -> Any:
        """See `IdempotencyHandler.handle`."""
        call = begin_call(self._plan, self._payload, execution_id=execution_id, is_replay=is_replay)
        if call is None:
            return await answered(self._function(*self._args, **self._kwargs))
        return await run_async(call, self._store, self._function, self._args, self._kwargs)


def _checked_arguments(args: object, kwargs: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
    given: Any = () if args is None else args
    named: Any = {} if kwargs is None else kwargs
    # A text would be one argument for each letter, and a dict one for each of its keys.
    if issubclass(type(given), str | bytes | bytearray | Mapping) or not issubclass(type(given), Iterable):
        raise IdempotencyConfigError(f"function_args must be a sequence of arguments; it is a {type(args).__name__}")
    if not issubclass(type(named), Mapping) or not all(isinstance(name, str) for name in named):
        raise IdempotencyConfigError(
            f"function_kwargs must be a mapping of arguments by name; it is a {type(kwargs).__name__}"
            + (", and not all its keys are strings" if issubclass(type(named), Mapping) else "")
        )
    return tuple(given), dict(named)


def awaitable_layer(store: BasePersistenceLayer | AsyncBasePersistenceLayer) -> AsyncBasePersistenceLayer:
    """The layer itself if it is asynchronous, else the layer behind worker threads."""
    if isinstance(store, AsyncBasePersistenceLayer):
        return store
    threaded = vars(store).get("_threaded")
    if threaded is None:
        from retrysafe.persistence.threads import ThreadedPersistenceLayer  # noqa: PLC0415  # imports asyncio

        # One for all callers of the layer, since it has threads of its own.
        threaded = vars(store).setdefault("_threaded", ThreadedPersistenceLayer(store))
    return cast("AsyncBasePersistenceLayer", threaded)


def opened_layer(store: AnyLayer | str, function: Any) -> AnyLayer:
    """The layer, opened from a URL if it is one, of the kind that the function needs."""
    if not isinstance(store, str):
        return store
    from retrysafe.signatures import is_async  # noqa: PLC0415  # loads inspect, for decorating alone

    return async_layer_from_url(store) if is_async(function) else layer_from_url(store)
