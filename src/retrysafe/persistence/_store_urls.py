"""URLs of stores as arguments of their layers: what stands in a URL, checked before anything is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence._cache.addresses import SCHEMES as CACHE_SCHEMES
from retrysafe.persistence._urls import decoded, query_options, shown_url, split_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from urllib.parse import SplitResult

_ATTRIBUTES: Final = ("expiry_attr", "in_progress_expiry_attr", "status_attr", "data_attr", "validation_key_attr")

_CACHE_OPTIONS: Final[dict[str, tuple[Callable[[str], Any], str]]] = {
    **dict.fromkeys(_ATTRIBUTES, (str, "a name")),
    "min_replicas": (int, "a whole number"),
    "replica_timeout_seconds": (float, "a number of seconds"),
}
"""The options of a cache layer that a URL may have: what each is read with, and what it must be."""

_DYNAMODB_OPTIONS: Final = {
    "region": "region_name",
    **{name: name for name in ("endpoint_url", "key_attr", "static_pk_value", "sort_key_attr", *_ATTRIBUTES)},
}
"""Those of a DynamoDB layer, and which argument each is."""


def arguments_of(url: str) -> tuple[str, dict[str, Any]]:
    """The scheme of a URL, and the arguments for its layer.

    Raises:
        IdempotencyPersistenceConfigError: It names no layer, or its options are wrong.
    """
    parts = split_url(url)
    if parts is None:
        raise _wrong(url, "it is no URL")
    reader = _READERS.get(parts.scheme)
    if reader is None:
        known = ", ".join(f"{scheme}://" for scheme in _READERS)
        raise _wrong(url, f"its scheme is none of {known}")
    return parts.scheme, reader(url, parts)


def _of_memory(url: str, parts: SplitResult) -> dict[str, Any]:
    _check_local(url, parts)
    if parts.path.strip("/") or parts.query:
        raise _wrong(url, "memory:// takes neither a path nor options")
    return {}


def _of_sqlite(url: str, parts: SplitResult) -> dict[str, Any]:
    from urllib.parse import parse_qsl  # noqa: PLC0415  # only a URL needs it

    _check_local(url, parts)
    path = decoded(parts.path.removeprefix("/"))
    if path is None:
        raise _wrong(url, "its path is no UTF-8 behind the percent signs")
    if not path:
        raise _wrong(url, "it names no file; write sqlite:///idempotency.db")
    options: dict[str, Any] = {"path": path}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in options:
            raise _wrong(url, f"the option {name!r} is given twice")
        if name == "busy_timeout_seconds":
            try:
                options[name] = float(value)
            except ValueError:
                raise _wrong(url, f"{name}={value!r} is no number of seconds") from None
        elif name in ("synchronous", "table"):
            options[name] = value
        else:
            raise _wrong(url, f"unknown option {name!r}; known: busy_timeout_seconds, synchronous, table")
    return options


def _check_local(url: str, parts: SplitResult) -> None:
    form = "memory:// alone" if parts.scheme == "memory" else f"{parts.scheme}:/// and a path"
    if not url[len(parts.scheme) :].startswith("://"):
        raise _wrong(url, f"two slashes are missing behind its scheme; write {form}")
    if parts.netloc or parts.fragment:
        raise _wrong(url, f"it names a host or a fragment; write {form}")


def _of_cache(url: str, _: SplitResult) -> dict[str, Any]:
    """The layer's options, and as `url` a cache's own URL without them."""
    from urllib.parse import unquote_plus  # noqa: PLC0415  # only a URL needs it

    place, mark, query = url.partition("?")
    options: dict[str, Any] = {}
    others: list[str] = []
    for pair in query.split("&"):
        name, equals, value = (unquote_plus(part) for part in pair.partition("="))
        if not equals or name not in _CACHE_OPTIONS or name in options:
            others.append(pair)  # the connection's, or wrong, which is said there
            continue
        read, what = _CACHE_OPTIONS[name]
        try:
            options[name] = read(value)
        except ValueError:
            raise _wrong(url, f"{name}={value!r} is not {what}") from None
    return {"url": f"{place}{mark}{'&'.join(others)}"} | options


def _of_dynamodb(url: str, parts: SplitResult) -> dict[str, Any]:
    if not parts.netloc or parts.path.strip("/") or parts.fragment or "@" in parts.netloc:
        raise _wrong(url, "write dynamodb://table?region=...; credentials are found as boto3 finds them")
    given = query_options(parts.query)
    unknown = sorted(given.keys() - _DYNAMODB_OPTIONS.keys())
    if unknown:
        raise _wrong(url, f"unknown option {unknown[0]!r}; known: {', '.join(_DYNAMODB_OPTIONS)}")
    return {"table_name": decoded(parts.netloc)} | {_DYNAMODB_OPTIONS[name]: value for name, value in given.items()}


_READERS: Final[dict[str, Callable[[str, SplitResult], dict[str, Any]]]] = {
    "memory": _of_memory,
    "sqlite": _of_sqlite,
    "dynamodb": _of_dynamodb,
    **dict.fromkeys(CACHE_SCHEMES, _of_cache),
}


def _wrong(url: Any, why: str) -> IdempotencyPersistenceConfigError:
    return IdempotencyPersistenceConfigError(f"persistence_store={shown_url(url)} is not usable: {why}")
