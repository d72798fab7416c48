"""What a user hands to a decorator or a handler, one by one: each is returned, or refused by its name and value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrysafe.config import IdempotencyConfig
from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.persistence.base import AsyncBasePersistenceLayer, BasePersistenceLayer

if TYPE_CHECKING:
    from retrysafe.serialization.base import BaseIdempotencySerializer

    AnyLayer = BasePersistenceLayer | AsyncBasePersistenceLayer


def checked_config(config: IdempotencyConfig | None) -> IdempotencyConfig:
    """The config, or the default one."""
    if config is None:
        return IdempotencyConfig()
    if not isinstance(config, IdempotencyConfig):
        raise IdempotencyConfigError(f"config must be an IdempotencyConfig; it is {config!r}")
    return config


def checked_layer(store: AnyLayer) -> AnyLayer:
    """The layer."""
    is_layer = isinstance(store, BasePersistenceLayer | AsyncBasePersistenceLayer)
    if is_layer and store.__class__ is not type(store):  # a proxy, or a mock, by whose clock nothing can be dated
        is_layer = isinstance(store.clock.now_ms(), int)
    if not is_layer:
        raise wrong_store(store, "a persistence layer or a URL")
    return store


def wrong_store(store: object, wanted: str) -> IdempotencyConfigError:
    """The refusal of what is no layer, without the password that it may hold."""
    from retrysafe.persistence._urls import shown_in_place_of  # noqa: PLC0415  # only an error needs it

    shown = shown_in_place_of(store)
    if isinstance(store, str):  # a decorator has opened it by now
        shown += ": only decorators open URLs; make a layer with layer_from_url() or async_layer_from_url()"
        wanted = wanted.removesuffix(" or a URL")
    return IdempotencyConfigError(f"persistence_store must be {wanted}; it is {shown}")


def checked_serializer(serializer: BaseIdempotencySerializer | None) -> BaseIdempotencySerializer | None:
    """The serializer."""
    if serializer is None:
        return None
    from retrysafe.serialization.base import BaseIdempotencySerializer  # noqa: PLC0415  # most functions have none

    if not isinstance(serializer, BaseIdempotencySerializer):
        raise IdempotencyConfigError(f"output_serializer must be a serializer; it is {serializer!r}")
    from retrysafe.signatures import checked_function  # noqa: PLC0415  # loads inspect, and most functions have none

    for name in ("to_dict", "from_dict"):  # found out later, the work would be done and its answer lost
        checked_function(f"{name} of output_serializer={type(serializer).__name__}", getattr(serializer, name), "data")
    return serializer


def check_key(key: Any, given: str, config: IdempotencyConfig) -> None:
    """Refuse what is given as `key` if it cannot make one of its argument, or if the config says already what does."""
    if key is None:
        return
    from retrysafe.signatures import checked_function  # noqa: PLC0415  # loads inspect, for decorating alone

    checked_function("key", key, given)
    if config.event_key_jmespath:
        raise IdempotencyConfigError(
            f"key and event_key_jmespath={config.event_key_jmespath!r} both say what makes the key; give one"
        )


def checked_prefix(key_prefix: str | None) -> str:
    """The key prefix; "" for none."""
    if key_prefix is None:
        return ""
    if not isinstance(key_prefix, str):
        raise IdempotencyConfigError(f"key_prefix must be a string; it is {key_prefix!r}")
    try:
        key_prefix.encode()
    except UnicodeEncodeError:
        raise IdempotencyConfigError(f"key_prefix must be encodable as UTF-8; it is {key_prefix!r}") from None
    return key_prefix
