"""The DynamoDB layer's arguments out of a URL: `dynamodb://table?region=eu-central-1`.

The query has the options of the layer: `region`, `endpoint_url` and the names of key and attributes.
"""

from __future__ import annotations

from typing import Any, Final

from retrysafe.exceptions import IdempotencyPersistenceConfigError
from retrysafe.persistence._urls import decoded, query_options, shown_url, split_url

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
    parts = split_url(url)
    if parts is None or not parts.netloc or parts.path.strip("/") or parts.fragment or "@" in parts.netloc:
        raise _wrong(url, "write dynamodb://table?region=...; credentials are found as boto3 finds them")
    given = query_options(parts.query)
    unknown = sorted(given.keys() - _OPTIONS.keys())
    if unknown:
        raise _wrong(url, f"unknown option {unknown[0]!r}; known: {', '.join(_OPTIONS)}")
    return {"table_name": decoded(parts.netloc)} | {_OPTIONS[name]: value for name, value in given.items()}


def _wrong(url: str, why: str) -> IdempotencyPersistenceConfigError:
    return IdempotencyPersistenceConfigError(f"persistence_store={shown_url(url)} is not usable: {why}")
