"""Python's JSON encoder, made ready once: setting it up takes as long as writing a small text.

`json.JSONEncoder` builds its encoder in C anew for each text. That one is undocumented, so it is taken only where it
writes what the public one does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def prepared_encoder(
    default: Callable[[Any], Any] | None = None, *, allow_nan: bool
) -> Callable[[Any, int], Iterable[str]]:
    """What gives `json.dumps(value, sort_keys=True)` in pieces, for a value and the level 0.

    It does not look out for circles, which would need state of its own for each text: one ends in a RecursionError.

    Args:
        default: What it calls for a value of a type that JSON lacks. Default: such a value is refused.
        allow_nan: Whether it writes nan and the infinities, which JSON lacks.
    """
    encoder = json.JSONEncoder(sort_keys=True, allow_nan=allow_nan, check_circular=False, default=default)
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    escape: Any = getattr(json.encoder, "encode_basestring_ascii", None)
    sample = {"b": [1.5, None, "\u2028"], "a": True}
    try:
        pieces: Callable[[Any, int], Iterable[str]] = make(
            None, encoder.default, escape, None, ": ", ", ", *(True, False, allow_nan)
        )
        if "".join(pieces(sample, 0)) == encoder.encode(sample):
            return pieces
    except Exception:  # noqa: BLE001, S110  # whatever it is that has changed
        pass
    return lambda value, _level: (encoder.encode(value),)
