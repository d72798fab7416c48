"""Where in a payload the value stands that cannot be hashed, for the error's message.

Worked out only after the encoder has refused a payload, so that no payload pays for it. A message names place
and type, never a value: payloads are private, and messages end up in logs.
"""

from __future__ import annotations

import json
from typing import Any

from retrysafe._keys.forms import NoFormError, a_type, is_dataclass_instance, json_form

_LONGEST_KEY_SHOWN = 40


def explain(value: Any, root: str, error: Exception) -> str:
    """`place: what is wrong there`, for a value that the encoder refused; ends in "be hashed".

    Args:
        value: What was to be encoded.
        root: What the message calls it.
        error: What the encoder raised.
    """
    try:
        fault = _first_fault(value, root, ())
    except RecursionError:
        fault = None
    if fault is not None:
        return fault
    if isinstance(error, RecursionError):
        return f"{root}: data nested so deeply cannot be hashed"
    return f"{root}: {a_type(value)} that leads to {a_type(error)} cannot be hashed"


def _first_fault(value: Any, place: str, above: tuple[int, ...]) -> str | None:
    if id(value) in above:
        return f"{place}: a circular reference cannot be hashed"
    try:
        children = _children(value)
    except NoFormError as error:
        return f"{place}: {error}"
    except RecursionError:
        raise
    except Exception as error:  # noqa: BLE001  # a getter or a serializer of the user's may raise anything
        return f"{place}: {a_type(value)} cannot be read ({type(error).__name__}), so it cannot be hashed"
    for step, child in children:
        fault = _first_fault(child, place + step, (*above, id(value)))
        if fault is not None:
            return fault
    return None


def _children(value: Any) -> list[tuple[str, Any]]:
    """What stands directly inside a value, each with the step that leads there.

    Raises:
        NoFormError: It is this value that cannot be hashed.
    """
    inside: Any = value
    if value is None or isinstance(value, (str, float)):
        return []
    if isinstance(value, int):
        _check_digits(value)
        return []
    if isinstance(value, dict):
        _check_keys(list(inside))
        return [(f"[{_shown(key)}]", child) for key, child in inside.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", child) for index, child in enumerate(inside)]
    form = json_form(value)
    if is_dataclass_instance(value) and hasattr(form, "items"):  # one that is a Decimal too has a text
        return [(f".{name}", child) for name, child in form.items()]
    return [("", form)]


def _check_digits(value: int) -> None:
    try:
        int.__repr__(value)
    except ValueError:
        raise NoFormError("an int with more digits than Python writes cannot be hashed") from None


def _check_keys(keys: list[Any]) -> None:
    for key in keys:
        if isinstance(key, int):
            _check_digits(key)
        elif key is not None and not isinstance(key, (str, float)):
            raise NoFormError(f"a dict with {a_type(key)} as a key cannot be hashed")
    try:
        sorted(keys)
    except TypeError:
        kinds = " and ".join(sorted({type(key).__name__ for key in keys}))
        raise NoFormError(f"a dict with keys of types {kinds} cannot be sorted, so it cannot be hashed") from None


def _shown(key: Any) -> str:
    text = json.dumps(key)
    return text if len(text) <= _LONGEST_KEY_SHOWN else f"{text[:_LONGEST_KEY_SHOWN]}..."
