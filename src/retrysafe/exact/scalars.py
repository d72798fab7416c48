"""Single values of the standard library as text, and back: one pair of functions for each type.

The text is what the peer writes where the peer can, else the usual one: ISO 8601, base64, hexadecimal.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import math
import pathlib
import re
import sys
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any, Final

from retrysafe.exact.errors import UnstorableAnswerError, type_name
from retrysafe.exact.marks import mark

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.exact.marks import Mark

_HALVES: Final = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")
_ALWAYS_WRITTEN_BITS: Final = 2_100
"""A little less than 640 digits, which Python reads and writes whatever limit is set."""


def encode_str(value: str) -> tuple[str, Mark]:
    r"""A string as JSON can carry it.

    JSON has no way to tell the two characters `"\ud83d" "\udc4d"` from the one they spell in UTF-16. A Python
    string can hold either, so where it holds the two, the mark keeps the pieces.
    """
    if value.isascii():
        return value, None
    pieces = _HALVES.split(value)
    if len(pieces) == 1:
        return value, None
    joined = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return joined, mark("str", pieces)


def encode_int(value: int) -> tuple[int | str, Mark]:
    """An integer; as hexadecimal text where it is longer than Python agrees to write in decimal digits."""
    if value.bit_length() > _ALWAYS_WRITTEN_BITS:
        try:
            int.__repr__(value)
        except ValueError:
            return hex(value), "int"
    return value, None


def encode_float(value: float) -> tuple[float | str, Mark]:
    """A float; nan and the infinities, which JSON lacks, by the names that JavaScript has for them."""
    if math.isfinite(value):
        return value, None
    return float_text(value), "float"


def float_text(value: float) -> str:
    """A float as a JSON object's key or value would spell it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float.__repr__(value)


def _encode_moment(value: dt.datetime | dt.time) -> tuple[str, Mark, type | None]:
    """ISO 8601, the mark's details, and the class of a time zone that only its offset is kept of."""
    # The base classes' own methods: a subclass may print itself otherwise.
    if isinstance(value, dt.datetime):
        tag, text = "datetime", dt.datetime.isoformat(value)
    else:
        tag, text = "time", dt.time.isoformat(value)
    details: dict[str, Any] = {}
    forgotten: type | None = None
    if value.fold:
        details["fold"] = 1
    offset = value.utcoffset()
    if offset is not None and offset.microseconds:
        details["offset"] = _encode_timedelta(offset)  # Python misreads some of these from the text
    zone = value.tzinfo
    if isinstance(zone, zoneinfo.ZoneInfo) and zone.key is not None:  # pyright: ignore[reportUnnecessaryComparison]  # it is None for a zone made from a file
        details["zone"] = zone.key
    elif isinstance(zone, dt.timezone):
        name = zone.tzname(None)
        if name != dt.timezone(zone.utcoffset(None)).tzname(None):
            details["name"] = name
    elif zone is not None and not type(zone).__module__.startswith("pydantic_core"):
        # pydantic's own zone is a fixed offset like the standard library's; nothing is lost with it.
        forgotten = type(zone)
    return text, mark(tag, details or None), forgotten


def _zone_of(name: str) -> zoneinfo.ZoneInfo | None:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _decode_datetime(text: str, details: dict[str, Any]) -> dt.datetime:
    value = dt.datetime.fromisoformat(text)
    value = value.replace(tzinfo=_fixed_zone(value, details))
    if "fold" in details:
        value = value.replace(fold=details["fold"])
    zone = _zone_of(details["zone"]) if "zone" in details else None
    if zone is None:
        # A zone that this machine does not know: the offset stands in the text, so the instant is the same.
        return value
    local = value.replace(tzinfo=zone)
    # Where the zone's rules changed since, the instant is kept and the wall clock gives way.
    return local if local.utcoffset() == value.utcoffset() else value.astimezone(zone)


def _decode_time(text: str, details: dict[str, Any]) -> dt.time:
    value = dt.time.fromisoformat(text)
    value = value.replace(tzinfo=_fixed_zone(value, details))
    if "zone" in details:
        zone = _zone_of(details["zone"])
        if zone is None and value.tzinfo is None:
            raise ValueError("a time of day in a time zone that this machine does not know")
        value = value.replace(tzinfo=zone or value.tzinfo)
    return value.replace(fold=details.get("fold", 0))


def _fixed_zone(value: dt.datetime | dt.time, details: dict[str, Any]) -> dt.tzinfo | None:
    """The zone of a moment as read from its text, with what the text does not tell of it."""
    if value.tzinfo is None or not details.keys() & {"offset", "name"}:
        return value.tzinfo
    # A zone made by fromisoformat is a fixed offset, which needs no date to tell itself.
    offset = _decode_timedelta(details["offset"]) if "offset" in details else value.tzinfo.utcoffset(None)
    return dt.timezone(offset or dt.timedelta(0), *([details["name"]] if "name" in details else []))


_DURATION: Final = re.compile(r"(-)?P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{1,6}))?S)?)?", re.ASCII)


def _encode_timedelta(value: dt.timedelta) -> str:
    """An ISO 8601 duration, exact: `P1DT2H3.5S`, `-PT1S`, `PT0S`."""
    sign = "-" if value.days < 0 else ""
    if sign:
        # Not the timedelta's own minus, which would overflow at the largest.
        micros = -(value.days * 86_400_000_000 + value.seconds * 1_000_000 + value.microseconds)
        days, micros = divmod(micros, 86_400_000_000)
    else:
        days, micros = value.days, value.seconds * 1_000_000 + value.microseconds
    seconds, micros = divmod(micros, 1_000_000)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    fraction = f".{micros:06d}".rstrip("0") if micros else ""
    clock = (
        (f"{hours}H" if hours else "")
        + (f"{minutes}M" if minutes else "")
        + (f"{seconds}{fraction}S" if seconds or micros else "")
    )
    text = (f"{days}D" if days else "") + (f"T{clock}" if clock else "")
    return f"{sign}P{text or 'T0S'}"


def _decode_timedelta(text: str) -> dt.timedelta:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError("not a duration")
    days, hours, minutes, seconds = (int(part or 0) for part in found.group(2, 3, 4, 5))
    micros = int((found[6] or "0").ljust(6, "0"))
    sign = -1 if found[1] else 1
    # Signs go on the parts: the negated whole could be out of a timedelta's range.
    return dt.timedelta(
        days=sign * days,
        hours=sign * hours,
        minutes=sign * minutes,
        seconds=sign * seconds,
        microseconds=sign * micros,
    )


def _encode_path(value: pathlib.PurePath) -> str:
    text = pathlib.PurePath.__str__(value)
    like = pathlib.PureWindowsPath if isinstance(value, pathlib.PureWindowsPath) else pathlib.PurePosixPath
    if like(text) != value:
        # Some malformed Windows paths are not understood in their own spelling.
        raise UnstorableAnswerError(value, "does not come back from its own text")
    return text


def _path(cls: type[pathlib.PurePath], elsewhere: type[pathlib.PurePath]) -> Callable[[str], pathlib.PurePath]:
    """A path's reader. A path of the other operating system comes back pure, and equal."""
    native = (cls is pathlib.WindowsPath) == (sys.platform == "win32")
    return cls if native or cls is elsewhere else elsewhere


_PATHS: Final = {
    pathlib.PurePosixPath: pathlib.PurePosixPath,
    pathlib.PureWindowsPath: pathlib.PureWindowsPath,
    pathlib.PosixPath: pathlib.PurePosixPath,
    pathlib.WindowsPath: pathlib.PureWindowsPath,
}

TEXTS: Final[dict[type, tuple[str, Callable[[Any], str]]]] = {
    decimal.Decimal: ("Decimal", decimal.Decimal.__str__),
    uuid.UUID: ("UUID", uuid.UUID.__str__),
    bytes: ("bytes", lambda value: base64.b64encode(value).decode("ascii")),
    bytearray: ("bytearray", lambda value: base64.b64encode(value).decode("ascii")),
    dt.date: ("date", dt.date.isoformat),
    dt.timedelta: ("timedelta", _encode_timedelta),
    **{cls: (cls.__name__, _encode_path) for cls in _PATHS},
}
"""Types written as one text: the tag, and what makes the text."""

MOMENTS: Final = frozenset({dt.datetime, dt.time})

_STRICT: Final = decimal.Context(traps=[decimal.InvalidOperation])
"""Not the caller's context: where that traps nothing, what is no number would be read as nan."""

READERS: Final[dict[str, Callable[[str], Any]]] = {
    "int": lambda text: int(text, 0),
    "float": float,
    "bool": {"true": True, "false": False}.__getitem__,
    "None": {"null": None}.__getitem__,
    "Decimal": lambda text: decimal.Decimal(text, _STRICT),
    "UUID": uuid.UUID,
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "bytearray": lambda text: bytearray(base64.b64decode(text, validate=True)),
    "date": dt.date.fromisoformat,
    "timedelta": _decode_timedelta,
    **{cls.__name__: _path(cls, elsewhere) for cls, elsewhere in _PATHS.items()},
}
"""What reads the text of each tag; the first four also read the keys of a dict."""

MOMENT_READERS: Final[dict[str, Callable[[str, dict[str, Any]], Any]]] = {
    "datetime": _decode_datetime,
    "time": _decode_time,
}


def encode_scalar(value: Any, cls: type) -> tuple[str, Mark, tuple[str, ...]]:
    """A value as an instance of `cls`, one of `TEXTS` or `MOMENTS`.

    Returns:
        The text, its mark, and the names of classes that the text does not keep.
    """
    forgotten: type | None = None
    if cls in MOMENTS:
        text, kind, forgotten = _encode_moment(value)
    else:
        tag, write = TEXTS[cls]
        text, kind = write(value), tag
    text, halves = encode_str(text)
    if halves is not None:
        kind = mark("via", halves, kind)
    return text, kind, () if forgotten is None else (type_name(forgotten),)
