"""The front door: `@idempotent` for Lambda handlers, `@idempotent_function` for any function or method.

Everything that can be decided is decided when decorating, and what is wrong is refused there.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload

from retrysafe import lambda_context, switch
from retrysafe.call import begin_call
from retrysafe.checks import check_key, checked_config
from retrysafe.config import IdempotencyConfig as IdempotencyConfig  # noqa: PLC0414, TC001  # as in Powertools' module
from retrysafe.drivers import run, run_async
from retrysafe.handler import awaitable_layer, opened_layer
from retrysafe.plan import plan_for
from retrysafe.serialization.base import serializer_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import TypeAlias

    from retrysafe.call import Call
    from retrysafe.checks import AnyLayer
    from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer
    from retrysafe.serialization.base import BaseIdempotencyModelSerializer, BaseIdempotencySerializer

    Serializer: TypeAlias = BaseIdempotencySerializer | type[BaseIdempotencyModelSerializer]
    KeyFunction: TypeAlias = Callable[[Mapping[str, Any]], Any]

P = ParamSpec("P")
R = TypeVar("R")


class _Decorator(Protocol):
    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]: ...


class _AsyncDecorator(Protocol):
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, Coroutine[Any, Any, R]]: ...


@overload
def idempotent(
    handler: None = None,
    *,
    persistence_store: BasePersistenceLayer | str,
    config: IdempotencyConfig | None = None,
    key_prefix: str | None = None,
) -> _Decorator: ...
@overload
def idempotent(
    handler: None = None,
    *,
    persistence_store: AsyncBasePersistenceLayer,
    config: IdempotencyConfig | None = None,
    key_prefix: str | None = None,
) -> _AsyncDecorator: ...
@overload
def idempotent(
    handler: Callable[P, R],
    *,
    persistence_store: BasePersistenceLayer | str,
    config: IdempotencyConfig | None = None,
    key_prefix: str | None = None,
) -> Callable[P, R]: ...
@overload
def idempotent(
    handler: Callable[P, Coroutine[Any, Any, R]],
    *,
    persistence_store: AsyncBasePersistenceLayer,
    config: IdempotencyConfig | None = None,
    key_prefix: str | None = None,
) -> Callable[P, Coroutine[Any, Any, R]]: ...
def idempotent(
    handler: Any = None,
    *,
    persistence_store: AnyLayer | str,
    config: IdempotencyConfig | None = None,
    key_prefix: str | None = None,
) -> Any:
    """Make a Lambda handler `(event, context, ...)` safe to retry: it runs once per idempotency key.

    The event is the payload. The context gives the lease its length: the invocation's remaining time. A durable
    context gives the Lambda context inside it, and lets the same execution pass its own record.

    Args:
        handler: The handler, sync or async; left out when used as `@idempotent(...)`.
        persistence_store: Where records are kept: a layer, or a URL (see `retrysafe.persistence`).
        config: The rules. Default: `IdempotencyConfig()`.
        key_prefix: What stands before `#` in keys. Default: Lambda's function name, module and qualname.

    Raises:
        IdempotencyConfigError: When decorating: the handler, the layer and the options don't fit together.
        IdempotencyPersistenceLayerError: When decorating: the store that a URL names cannot be opened.
        IdempotencyBaseError: When called: see `retrysafe.exceptions`; else whatever the function raises.
    """
    if handler is None:
        return functools.partial(
            cast("Any", idempotent), persistence_store=persistence_store, config=config, key_prefix=key_prefix
        )
    from retrysafe.signatures import HandlerArguments, is_async  # noqa: PLC0415  # loads inspect, for decorating alone

    store = opened_layer(persistence_store, handler)
    plan = plan_for(handler, store, config=config, key_prefix=key_prefix, into_json=True)
    arguments = HandlerArguments(handler)
    event_of = arguments.event
    if is_async(handler):
        async_store = awaitable_layer(store)

        @functools.wraps(handler)
        async def in_async_invocation(*args: Any, **kwargs: Any) -> Any:
            context, execution_id, is_replay = lambda_context.unwrap(arguments.context(args, kwargs))
            token = lambda_context.register(context)
            try:
                call = None if switch.is_off() else begin_call(plan, event_of(args, kwargs), execution_id, is_replay)
                if call is None:
                    return await handler(*args, **kwargs)
                return await run_async(call, async_store, handler, args, kwargs)
            finally:
                lambda_context.unregister(token)

        return in_async_invocation

    sync_store = cast("BasePersistenceLayer", store)  # plan_for has refused the other kind

    @functools.wraps(handler)
    def in_invocation(*args: Any, **kwargs: Any) -> Any:
        context, execution_id, is_replay = lambda_context.unwrap(arguments.context(args, kwargs))
        token = lambda_context.register(context)
        try:
            call = None if switch.is_off() else begin_call(plan, event_of(args, kwargs), execution_id, is_replay)
            return handler(*args, **kwargs) if call is None else run(call, sync_store, handler, args, kwargs)
        finally:
            lambda_context.unregister(token)

    return in_invocation


@overload
def idempotent_function(
    function: None = None,
    *,
    data_keyword_argument: str | None = None,
    persistence_store: BasePersistenceLayer | str,
    config: IdempotencyConfig | None = None,
    output_serializer: Serializer | None = None,
    key_prefix: str | None = None,
    key: KeyFunction | None = None,
) -> _Decorator: ...
@overload
def idempotent_function(
    function: None = None,
    *,
    data_keyword_argument: str | None = None,
    persistence_store: AsyncBasePersistenceLayer,
    config: IdempotencyConfig | None = None,
    output_serializer: Serializer | None = None,
    key_prefix: str | None = None,
    key: KeyFunction | None = None,
) -> _AsyncDecorator: ...
@overload
def idempotent_function(
    function: Callable[P, R],
    *,
    data_keyword_argument: str | None = None,
    persistence_store: BasePersistenceLayer | str,
    config: IdempotencyConfig | None = None,
    output_serializer: Serializer | None = None,
    key_prefix: str | None = None,
    key: KeyFunction | None = None,
) -> Callable[P, R]: ...
@overload
def idempotent_function(
    function: Callable[P, Coroutine[Any, Any, R]],
    *,
    data_keyword_argument: str | None = None,
    persistence_store: AsyncBasePersistenceLayer,
    config: IdempotencyConfig | None = None,
    output_serializer: Serializer | None = None,
    key_prefix: str | None = None,
    key: KeyFunction | None = None,
) -> Callable[P, Coroutine[Any, Any, R]]: ...
def idempotent_function(
    function: Any = None,
    *,
    data_keyword_argument: str | None = None,
    persistence_store: AnyLayer | str,
    config: IdempotencyConfig | None = None,
    output_serializer: Serializer | None = None,
    key_prefix: str | None = None,
    key: KeyFunction | None = None,
) -> Any:
    """Make any function or method, sync or async, safe to retry: it runs once per idempotency key.

    Args:
        function: The function; left out when used as `@idempotent_function(...)`.
        data_keyword_argument: The argument that is the payload, however the caller passes it. Default: all arguments
            are, by name, without `self` and `cls`.
        persistence_store: Where records are kept: a layer, or a URL (see `retrysafe.persistence`).
        config: The rules. Default: `IdempotencyConfig()`.
        output_serializer: How the answer becomes a dict and comes back: a serializer, or a class of model serializer,
            which takes the model from the return annotation. Default: the answer as it is.
        key_prefix: What stands before `#` in keys. Default: Lambda's function name, module and qualname.
        key: Gives the value that makes the key, from a dict of all arguments by name; for callers who hold a key
            already. None, "" and the like are no key. Default: the config's expression selects it from the payload.

    Raises:
        IdempotencyConfigError: When decorating: the function, the layer and the options don't fit together.
        IdempotencyNoSerializationModelError: `output_serializer` is a class, and there is no return annotation.
        IdempotencyModelTypeError: `output_serializer` is a class, and the annotation is no model of its kind.
        IdempotencyPersistenceLayerError: When decorating: the store that a URL names cannot be opened.
        IdempotencyBaseError: When called: see `retrysafe.exceptions`; else whatever the function raises.
    """
    if function is None:
        return functools.partial(
            cast("Any", idempotent_function),
            data_keyword_argument=data_keyword_argument,
            persistence_store=persistence_store,
            config=config,
            output_serializer=output_serializer,
            key_prefix=key_prefix,
            key=key,
        )
    from retrysafe.signatures import Arguments, is_async  # noqa: PLC0415  # loads inspect

    config = checked_config(config)
    check_key(key, "arguments", config)
    store = opened_layer(persistence_store, function)
    serializer = serializer_for(output_serializer, function)
    plan = plan_for(function, store, config=config, serializer=serializer, key_prefix=key_prefix)
    arguments = Arguments(function, data_keyword_argument)
    name = arguments.keyword

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        if switch.is_off():
            return None
        payload = kwargs[name] if name in kwargs else arguments.payload(args, kwargs)
        return (
            begin_call(plan, payload)
            if key is None
            else begin_call(plan, payload, key=key(arguments.bound(args, kwargs)))
        )

    if is_async(function):
        async_store = awaitable_layer(store)

        @functools.wraps(function)
        async def async_wrapper(*args: Any, **kwargs: Any) -> Any:
            call = begin(args, kwargs)
            if call is None:
                return await function(*args, **kwargs)
            return await run_async(call, async_store, function, args, kwargs)

        return async_wrapper

    sync_store = cast("BasePersistenceLayer", store)  # plan_for has refused the other kind

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        return function(*args, **kwargs) if call is None else run(call, sync_store, function, args, kwargs)

    return wrapper
