"""What is refused, and an error of a client, is told without the password that it holds."""

from __future__ import annotations

import traceback

import pytest
import redis

from retrysafe import IdempotencyConfig, idempotent, idempotent_batch, idempotent_block, idempotent_function
from retrysafe.base import AsyncIdempotencyHandler, IdempotencyHandler
from retrysafe.exceptions import IdempotencyConfigError, IdempotencyPersistenceConfigError
from retrysafe.persistence._cache.errors import explained
from retrysafe.persistence.cache import CachePersistenceLayer
from retrysafe.persistence.dynamodb import DynamoDBPersistenceLayer
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.refusals import coroutine_function, function

SECRET = "hunter2"  # noqa: S105  # of nobody
URL = f"redis://user:{SECRET}@host:6379/0"


class Client:
    """redis-py 6.4 shows a client's password in its repr."""

    def __repr__(self) -> str:
        return f"<Client(password={SECRET})>"


def decorated(decorate):
    return lambda given: decorate(function, persistence_store=given, key_prefix="p")


TAKERS = {
    "idempotent": decorated(idempotent),
    "idempotent_function": decorated(idempotent_function),
    "idempotent_batch": decorated(idempotent_batch),
    "idempotent_block": lambda given: idempotent_block({"id": 1}, key_prefix="p", persistence_store=given),
    "IdempotencyHandler": lambda given: IdempotencyHandler(function, 1, IdempotencyConfig(), given),
    "AsyncIdempotencyHandler": lambda given: AsyncIdempotencyHandler(coroutine_function, 1, IdempotencyConfig(), given),
}
TAKE_URLS = ("idempotent", "idempotent_function", "idempotent_batch")


@pytest.mark.parametrize("given", [URL.encode(), Client(), {"url": URL}, [URL]], ids=lambda given: type(given).__name__)
@pytest.mark.parametrize("taker", TAKERS)
def test_what_is_no_layer_is_refused_without_the_password_it_holds(taker, given):
    with pytest.raises(IdempotencyConfigError, match="persistence_store must be") as refused:
        TAKERS[taker](given)
    assert type(given).__name__ in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("taker", [name for name in TAKERS if name not in TAKE_URLS])
def test_a_url_where_none_is_opened_is_refused_with_what_opens_it_and_without_its_password(taker):
    with pytest.raises(IdempotencyConfigError, match=r"persistence_store must be a .*layer") as refused:
        TAKERS[taker](URL)
    assert "layer_from_url()" in str(refused.value)
    assert "a URL;" not in str(refused.value), "as if one were taken"
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda: SQLitePersistenceLayer(URL), "path="),
        (lambda: SQLitePersistenceLayer(URL.encode()), "path="),  # type: ignore[arg-type]  # that is the test
        (lambda: DynamoDBPersistenceLayer(URL), "table_name="),
        (lambda: DynamoDBPersistenceLayer("table", endpoint_url=f"https://user:{SECRET}@host"), "endpoint_url="),
        (lambda: CachePersistenceLayer(host=URL.encode()), "host="),  # type: ignore[arg-type]  # that is the test
    ],
)
def test_a_url_in_the_wrong_place_is_refused_without_its_password(make, option):
    with pytest.raises(IdempotencyPersistenceConfigError, match=option) as refused:
        make()
    assert SECRET not in str(refused.value)


def test_a_clients_error_shows_no_password_where_its_traceback_stands_before_ours():
    """redis-py 6.4 shows the options of its connections to Sentinels, with their password."""
    first = redis.ConnectionError(f"refused (password={SECRET})")
    error = RuntimeError(f"No master found for 'm' : <Connection(db=0,password={SECRET},host=h)>")
    error.__cause__ = first
    ours = explained(error, "host:6379")
    ours.__cause__ = error
    shown = "".join(traceback.format_exception(ours))
    assert "No master found" in shown
    assert "refused (" in shown
    assert SECRET not in shown
