"""The DynamoDB layer's arguments out of a URL: `dynamodb://table?region=eu-central-1`.

The query has the options of the layer: `region`, `endpoint_url` and the names of key and attributes.
"""

from __future__ import annotations

from typing import Any, Final

from retrysafe.exceptions import IdempotencyPersistenceConfigError

_OPTIONS: Final = {
    "region": "region_name",
    **{
        name: name
        for name in (
            "endpoint_url",
            "key_attr",
            "static_pk_value",
            "sort_key_attr",
            "expiry_attr",
            "in_progress_expiry_attr",
            "status_attr",
            "data_attr",
            "validation_key_attr",
        )
    },
}


def arguments_of(url: str) -> dict[str, Any]:
    """The arguments that a URL stands for.

    Raises:
        IdempotencyPersistenceConfigError: It is wrong; names the option.
    """
    from urllib.parse import parse_qsl, unquote, urlsplit  # noqa: PLC0415  # only a URL needs it

    try:
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise _wrong(url, "it is no URL") from None
    if not parts.netloc or parts.path.strip("/") or parts.fragment or "@" in parts.netloc:
        raise _wrong(url, "write dynamodb://table?region=...; credentials are found as boto3 finds them")
    unknown = sorted(given.keys() - _OPTIONS.keys())
    if unknown:
        raise _wrong(url, f"unknown option {unknown[0]!r}; known: {', '.join(_OPTIONS)}")
    return {"table_name": unquote(parts.netloc)} | {_OPTIONS[name]: value for name, value in given.items()}


def _wrong(url: str, why: str) -> IdempotencyPersistenceConfigError:
    shown = url if "@" not in url else "dynamodb://..."  # no secret in an error
    return IdempotencyPersistenceConfigError(f"persistence_store={shown!r} is not usable: {why}")
