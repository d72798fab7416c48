"""Wrong use of a decorator, a block or a handler is one clear error when it is made."""

from __future__ import annotations

import functools
from unittest.mock import MagicMock

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    idempotent,
    idempotent_block,
    idempotent_function,
)
from retrysafe.base import IdempotencyHandler
from retrysafe.exceptions import IdempotencyConfigError


def generator(order):
    yield order


class CallableGenerator:
    def __call__(self, order):
        yield order


async def async_generator(order):
    yield order


def plain(order):
    return order


@pytest.mark.parametrize(
    ("decorate", "message"),
    [
        (lambda: idempotent_function(plain, persistence_store=AsyncMemoryPersistenceLayer()), "AsyncMemory.*plain"),
        (lambda: idempotent(plain, persistence_store=AsyncMemoryPersistenceLayer()), "AsyncMemory.*plain"),
        (lambda: idempotent_function(generator, persistence_store="memory://"), "generator.*generator function"),
        (
            lambda: idempotent_function(functools.partial(generator, 1), key_prefix="a", persistence_store="memory://"),
            r"functools\.partial is a generator function",
        ),
        (
            lambda: idempotent_function(CallableGenerator(), key_prefix="a", persistence_store="memory://"),
            r"CallableGenerator is a generator function",
        ),
        (lambda: idempotent_function(async_generator, persistence_store="memory://"), "async_generator.*generator"),
        (
            lambda: idempotent_function(plain, data_keyword_argument="oder", persistence_store="memory://"),
            r"data_keyword_argument='oder'.*plain\(order\)",
        ),
        (lambda: idempotent_function(plain, data_keyword_argument=3, persistence_store="memory://"), "it is 3"),
        (
            lambda: idempotent_function(
                lambda *orders: 1, data_keyword_argument="orders", persistence_store="memory://"
            ),
            "'orders' must name one argument",
        ),
        (lambda: idempotent_function(plain, persistence_store=None), "persistence_store.*None"),
        (lambda: idempotent_function(plain, persistence_store=MemoryPersistenceLayer), "persistence_store.*class"),
        (lambda: idempotent_function(plain, persistence_store=MagicMock(MemoryPersistenceLayer)), "store.*a MagicMock"),
        (lambda: idempotent_function(plain, persistence_store="memory://", config={}), r"config.*\{\}"),
        (lambda: idempotent_function(plain, persistence_store="memory://", key="k"), "key must be callable.*'k'"),
        (
            lambda: idempotent_function(
                plain,
                persistence_store="memory://",
                key=str,
                config=IdempotencyConfig(event_key_jmespath="id"),
            ),
            "event_key_jmespath='id'",
        ),
        (lambda: idempotent_function(plain, persistence_store="memory://", key_prefix=3), "key_prefix.*3"),
        (lambda: idempotent_function(plain, persistence_store="memory://", key_prefix="\ud800"), "key_prefix.*UTF-8"),
        (lambda: idempotent_function(functools.partial(plain), persistence_store="memory://"), "key_prefix is needed"),
        (lambda: idempotent_function(classmethod(plain), persistence_store="memory://"), "@classmethod above"),
        (lambda: idempotent_function(3, persistence_store="memory://"), "callable.*3"),
        (lambda: idempotent_function(dict, persistence_store="memory://"), "dict.*is a class"),
        (lambda: idempotent_function(plain, persistence_store="memory://", output_serializer=3), "output_serializer"),
        (lambda: idempotent_block(1, key_prefix="", persistence_store=MemoryPersistenceLayer()), "key_prefix"),
        (lambda: idempotent_block(1, key_prefix="p", persistence_store="x"), "persistence_store.*'x'"),
        (lambda: IdempotencyHandler(plain, 1, None, AsyncMemoryPersistenceLayer()), "synchronous layer"),
    ],
)
def test_wrong_use_is_one_clear_error_when_decorating(decorate, message):
    with pytest.raises(IdempotencyConfigError, match=message):
        decorate()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://x", "none of memory://, sqlite://"),
        ("", "none of memory://"),
        ("sqlite://[x", "names a host"),
        ("redsi://user:secret@host/0", r"//\.\.\.@host"),
        ("memory://host", "names a host.*write memory:// alone"),
        ("memory:///path", "neither a path"),
        ("sqlite://", "names no file"),
        ("sqlite://host/x.db", "host"),
        ("sqlite:x.db", "two slashes"),
        ("sqlite:/x.db", "two slashes.*write sqlite:/// and a path"),  # else a file of the working directory
        ("memory:", "two slashes"),
        ("sqlite:///%ff.db", "no UTF-8"),
        ("sqlite:///x.db?synchron=off", "unknown option 'synchron'"),
        ("sqlite:///x.db?synchronous=maybe", "synchronous.*'maybe'"),
        ("sqlite:///x.db?busy_timeout_seconds=soon", "busy_timeout_seconds='soon'"),
        ("sqlite:////no/such/folder/x.db", "/no/such/folder/x.db"),
    ],
)
def test_a_url_that_names_no_layer_is_one_clear_error_when_decorating(url, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IdempotencyConfigError, match=message):
        idempotent_function(plain, persistence_store=url)
    assert list(tmp_path.iterdir()) == []
