"""The serializer made of two functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retrysafe.serialization.base import BaseIdempotencySerializer
from retrysafe.signatures import checked_function

if TYPE_CHECKING:
    from collections.abc import Callable


class CustomDictSerializer(BaseIdempotencySerializer):
    """Calls two functions of your own.

    Args:
        to_dict: Makes a dict of an answer.
        from_dict: Makes the answer of that dict again. It gets keys and values back as `to_dict` gave them,
            of the same types; from a record that a peer wrote, plain JSON.

    Raises:
        IdempotencyConfigError: One of them cannot be called, or is `async def`.
    """

    def __init__(self, to_dict: Callable[[Any], dict[Any, Any]], from_dict: Callable[[dict[Any, Any]], Any]) -> None:
        for option, function in (("to_dict", to_dict), ("from_dict", from_dict)):
            # Found out later, the work would be done and its answer lost.
            checked_function(f"{option} of CustomDictSerializer", function, "data")
        self._to_dict = to_dict
        self._from_dict = from_dict

    def to_dict(self, data: Any) -> dict[Any, Any]:
        """What the first function makes of the answer."""
        return self._to_dict(data)

    def from_dict(self, data: dict[Any, Any]) -> Any:
        """What the second function makes of the dict."""
        return self._from_dict(data)
