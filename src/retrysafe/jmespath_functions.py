"""The functions that JMESPath expressions may use beside JMESPath's own: for text that holds JSON or base64.

Imports jmespath, so it is itself imported only once an expression is set.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from typing import Any

from jmespath.functions import Functions, signature

from retrysafe._keys.forms import a_type
from retrysafe.exceptions import IdempotencyKeyError


class PowertoolsFunctions(Functions):
    """JMESPath's own functions and three more; what `jmespath_options=None` stands for.

    To add functions of your own, subclass it, and hand an instance over as
    `jmespath_options={"custom_functions": ...}`.
    """

    @signature({"types": []})
    def _func_to_string(self, value: Any) -> str:
        """JMESPath's own, except that it refuses what has another text in each process."""
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=_lasting_text)

    @signature({"types": ["string"]})
    def _func_powertools_json(self, text: str) -> Any:
        """`powertools_json(text)`: the value that the JSON text stands for."""
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            # Not chained, here and below: the standard library's errors carry the text, which is private.
            raise IdempotencyKeyError("powertools_json() was given text that is not JSON") from None

    @signature({"types": ["string"]})
    def _func_powertools_base64(self, text: str) -> str:
        """`powertools_base64(text)`: the UTF-8 text that the base64 text stands for."""
        try:
            return base64.b64decode(text).decode()
        except ValueError:
            raise IdempotencyKeyError("powertools_base64() was given text that is not base64 of UTF-8") from None

    @signature({"types": ["string"]})
    def _func_powertools_base64_gzip(self, text: str) -> str:
        """`powertools_base64_gzip(text)`: the UTF-8 text that was compressed and then put into base64."""
        try:
            return gzip.decompress(base64.b64decode(text)).decode()
        except (ValueError, OSError, EOFError, zlib.error):
            raise IdempotencyKeyError(
                "powertools_base64_gzip() was given text that is not base64 of gzip of UTF-8"
            ) from None


def _lasting_text(value: Any) -> str:
    """What `str` makes of a value that JSON has no type for, if the same value has that text in a retry.

    Raises:
        IdempotencyKeyError: It is a set, whose order is another one in each process, or tells where in memory it is.
    """
    text, kind = str(value), a_type(value)
    if isinstance(value, (set, frozenset)) or f"{id(value):x}" in text.lower():
        raise IdempotencyKeyError(f"to_string() was given {kind}, whose text is another one in each process")
    return text
