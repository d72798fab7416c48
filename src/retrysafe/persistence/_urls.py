"""URLs of stores: their parts, the options in a query, and what an error may show of one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import IdempotencyPersistenceConfigError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_LONGEST_PORT: Final = 5

# RFC 3986, appendix B. `urlsplit` refuses several hosts where a later one is an IPv6 address.
_PARTS: Final = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?")


def split_url(url: Any) -> SplitResult | None:
    """The parts of a URL; None for what is none, such as a text with a tab or a line's end in it."""
    from urllib.parse import SplitResult  # noqa: PLC0415  # only a URL needs it

    found = _PARTS.fullmatch(url) if isinstance(url, str) and not any(mark in url for mark in "\t\r\n") else None
    if found is None:
        return None
    scheme, *others = (part or "" for part in found.groups())
    return SplitResult(scheme.lower(), *others)


def is_storable_name(name: Any) -> bool:
    """Whether it is a text, and one that can be sent: some that Python knows have no form in UTF-8."""
    return isinstance(name, str) and name != "" and not any("\ud800" <= character <= "\udfff" for character in name)


def decoded(text: str) -> str | None:
    """The text without its percent signs; None where that makes none."""
    from urllib.parse import unquote_to_bytes  # noqa: PLC0415  # only a URL needs it

    try:
        return unquote_to_bytes(text).decode()
    except ValueError:
        return None


def shown_url(url: Any) -> str:
    """The URL as an error may show it: without the user, what may be a password, and the values of the query."""
    if not isinstance(url, str):
        return f"a {type(url).__name__}"
    scheme, separator, rest = url.partition("://") if looks_like_url(url) else ("", "", url)
    _, user, rest = rest.rpartition("@")
    for mark in "#?":
        rest, hidden, _ = rest.partition(mark)
        rest += f"{mark}..." if hidden else ""
    places, slash, path = rest.partition("/")
    places = ",".join(_shown_place(place) for place in places.split(","))
    return repr(f"{scheme}{separator}{'...@' if user else ''}{places}{slash}{path}")


def shown_in_place_of(value: object) -> str:
    """What was given in the place of a layer, a path or a table, as an error may show it.

    It may be a URL; and a client of redis-py shows its password in its repr, as a dict of options would.
    """
    if isinstance(value, str):
        return shown_url(value) if "://" in value or "@" in value else repr(value)
    return repr(value) if value is None or isinstance(value, type | int | float) else f"a {type(value).__name__}"


def looks_like_url(text: str) -> bool:
    """Whether it is no path or name, but the URL of a store."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.replace("+", "").isalnum()


def _shown_place(place: str) -> str:
    """Host and port. Where the host was forgotten, what stands in the port's place is a password."""
    host, colon, port = place.rpartition(":")
    if not colon or place.startswith("["):
        return place
    return place if host and port.isdecimal() and len(port) <= _LONGEST_PORT else f"{host}:..."


def query_options(query: str) -> dict[str, str]:
    """The options in a URL's query, by name.

    Raises:
        IdempotencyPersistenceConfigError: One has no value, or two.
    """
    from urllib.parse import unquote_plus  # noqa: PLC0415  # only a URL needs it

    options: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        encoded, equals, value = pair.partition("=")
        if not equals:
            # It may be what follows a ? in a password, so it is not shown.
            raise IdempotencyPersistenceConfigError("url: an option has no value; write ? in a password as %3F")
        name = unquote_plus(encoded)
        if name in options:
            raise IdempotencyPersistenceConfigError(f"url: the option {name!r} is given twice")
        options[name] = unquote_plus(value)
    return options
