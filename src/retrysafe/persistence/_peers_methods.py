"""Methods of Powertools' layers that nothing calls here, and how a subclass that overrides one is told.

What such a method did, another way of making keys above all, would be left undone without a word.
"""

from __future__ import annotations

from typing import Any, Final

_NEVER_CALLED: Final = frozenset(
    {
        "_generate_hash",
        "_get_expiry_timestamp",
        "_get_hashed_idempotency_key",
        "_get_hashed_payload",
        "is_missing_idempotency_key",
        "save_inprogress",
        "save_success",
    }
)
"""Of the names that cannot well mean anything else."""

_NEVER_CALLED_WITH: Final = {
    "_validate_payload": "stored_data_record",
    "configure": "function_name",
    "delete_record": "exception",
    "get_record": "data",
}
"""Of those that can: with the parameter that tells them, since Powertools hands it over by this name."""


def overridden(cls: type, base: type, names: frozenset[str]) -> list[str]:
    """Which of them a class overrides, itself or by a mixin.

    Args:
        cls: A layer's class.
        base: The contract that it inherits.
        names: More names: those that only the layer that it inherits from has in Powertools.
    """
    before = cls.__mro__[: cls.__mro__.index(base)]
    return [
        name
        for place, written in enumerate(before)
        if written is cls or not issubclass(written, base)  # other layers were asked when they were defined
        for name, method in vars(written).items()
        if name in names or _is_peers(before[place + 1 :], name, method)
    ]


def _is_peers(inherited: tuple[type, ...], name: str, method: Any) -> bool:
    if name in _NEVER_CALLED:
        return True
    code = getattr(method, "__code__", None)
    if name not in _NEVER_CALLED_WITH or code is None:
        return False
    # Or it calls what it overrides, and there is no such thing.
    calls_super = {"super", name} <= {*code.co_names} and not any(name in vars(each) for each in inherited)
    return calls_super or _NEVER_CALLED_WITH[name] in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
