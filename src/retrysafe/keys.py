"""From a payload to the hash in its idempotency key, and to its payload hash. Pure.

A hash is the hex digest of `json.dumps(data, sort_keys=True)`, byte for byte what the peers write, so that
their workers and ours know each other's keys. This runs before every call, a replayed one too: what can be is
made ready once, and a payload of JSON types meets hardly more code than the encoder and the hash.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import TYPE_CHECKING, Any, Final

from retrysafe.exceptions import IdempotencyConfigError, IdempotencyKeyError
from retrysafe.json_encoder import prepared_encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe._keys.selection import Selection

_EVENT_KEY: Final = "event_key_jmespath"
_VALIDATION: Final = "payload_validation_jmespath"

_JSON_TYPES: Final = frozenset({dict, list, tuple, str, int, float, bool, type(None)})


class PayloadKeys:
    """How keys and payload hashes are made from payloads, decided once per config.

    Args:
        event_key_jmespath: Selects what the key is made of. Default "": the whole payload.
        payload_validation_jmespath: Selects what must be equal where keys are. Default "": nothing.
        jmespath_options: A `jmespath.Options`, or its arguments as a dict. Default None: the functions
            `powertools_json`, `powertools_base64` and `powertools_base64_gzip` beside JMESPath's own.
        hash_function: A name that hashlib knows, of a hash with a fixed length. Default "md5".

    Attributes:
        validates: Whether there are payload hashes.

    Raises:
        IdempotencyConfigError: An option is unusable; names it and its value.
    """

    __slots__ = ("_hash", "_key_selection", "_validation_selection", "validates")

    def __init__(
        self,
        *,
        event_key_jmespath: str = "",
        payload_validation_jmespath: str = "",
        jmespath_options: Any = None,
        hash_function: str = "md5",
    ) -> None:
        _check_text(_EVENT_KEY, event_key_jmespath)
        _check_text(_VALIDATION, payload_validation_jmespath)
        _check_text("hash_function", hash_function)
        self._hash = _hash_constructor(hash_function)
        self._key_selection: Selection | None = None
        self._validation_selection: Selection | None = None
        self.validates = payload_validation_jmespath != ""
        if event_key_jmespath or payload_validation_jmespath or jmespath_options is not None:
            from retrysafe._keys.selection import Selection, checked_options  # noqa: PLC0415  # loads jmespath

            options = checked_options(jmespath_options)
            if event_key_jmespath:
                self._key_selection = Selection(_EVENT_KEY, event_key_jmespath, options)
            if payload_validation_jmespath:
                self._validation_selection = Selection(_VALIDATION, payload_validation_jmespath, options)

    def key_hash(self, payload: Any) -> str | None:
        """The hash in the payload's idempotency key; None where the payload has no key.

        None, "", and a dict, list or tuple with nothing but None in it are no key; 0 and False are.

        Raises:
            IdempotencyKeyError: The payload cannot be searched, or what is selected cannot be hashed.
        """
        selection = self._key_selection
        data = payload if type(payload) in _JSON_TYPES else _whole(payload, "payload", selection)
        if selection is None:
            return self._digest(data, "payload") or None
        selected = selection.select(data)
        if data is not payload:
            selected = _forms().selected_from(payload, selected)
        return self._digest(selected, _EVENT_KEY) or None

    def hash_of(self, data: Any) -> str | None:
        """The same for what is selected already: the expressions take no part.

        Raises:
            IdempotencyKeyError: The data cannot be hashed.
        """
        data = data if type(data) in _JSON_TYPES else _whole(data, "key")
        return self._digest(data, "key") or None

    def payload_hash(self, payload: Any) -> str:
        """The hash of the part of the payload under validation; "" without validation.

        Where the expression selects nothing, it is the hash of null.

        Raises:
            IdempotencyKeyError: The payload cannot be searched, or what is selected cannot be hashed.
        """
        selection = self._validation_selection
        if selection is None:
            return ""
        data = payload if type(payload) in _JSON_TYPES else _whole(payload, "payload", selection)
        return self._digest(selection.select(data), _VALIDATION, is_key=False)

    def _digest(self, data: Any, origin: str, is_key: bool = True) -> str:
        """The hash; "" where it is to be a key and can tell no call from another, as the peers judge it."""
        values: Any = data
        if isinstance(data, dict):
            values = values.values()
        elif not isinstance(data, (list, tuple)):
            values = (None if isinstance(data, str) and not data else data,)
        for value in values:  # `any` takes as long as the whole hash
            if value is not None:
                break
        else:
            if is_key:
                return ""
        try:
            text = "".join(_encoded(data, 0))
        except RecursionError as error:  # not chained: its traceback has a thousand lines that say nothing
            raise _refusal(data, origin, error) from None
        except Exception as error:  # a getter or a serializer of the user's may raise anything
            raise _refusal(data, origin, error) from error
        digest: str = self._hash(text.encode()).hexdigest()
        return digest


def _whole(payload: Any, origin: str, selection: Selection | None = None) -> Any:
    """A payload that is of no JSON type; not asked for the others, whose calls it would slow down."""
    try:
        return _forms().whole(payload, selection is not None and selection.calls)
    except Exception as error:
        reason = f"{_forms().a_type(payload)} cannot be read ({type(error).__name__}), so it cannot be hashed"
        raise IdempotencyKeyError(f"{origin}: {reason}") from error


def _refusal(data: Any, origin: str, error: Exception) -> IdempotencyKeyError:
    from retrysafe._keys.places import explain  # noqa: PLC0415  # only a refused payload needs it

    if origin not in (_EVENT_KEY, _VALIDATION):
        return IdempotencyKeyError(f"{explain(data, origin, error)} into an idempotency key")
    made = "an idempotency key" if origin == _EVENT_KEY else "a payload hash"
    return IdempotencyKeyError(f"{explain(data, 'selected', error)} into {made} (selected by {origin})")


def _check_text(option: str, value: object) -> None:
    if not isinstance(value, str):
        raise IdempotencyConfigError(f"{option}={value!r} is not a string")


def _hash_constructor(name: str) -> Callable[..., Any]:
    """What makes a hash object; tried here, so that a wrong name does not wait for the first call."""
    if name == "md5":
        # The interpreter's own md5 takes a third of the time of OpenSSL's, which looks its method up at each call; and
        # it spares loading OpenSSL. Some builds of Python lack it.
        with contextlib.suppress(ImportError):
            own: Callable[..., Any] = importlib.import_module("_md5").md5
            return own
    import hashlib  # noqa: PLC0415  # see above

    known = name in hashlib.algorithms_guaranteed and hasattr(hashlib, name)
    named: Callable[..., Any] = getattr(hashlib, name) if known else functools.partial(hashlib.new, name)
    # A machine in FIPS mode gives out md5 only for uses in which no security rests on it, as here.
    make = functools.partial(named, usedforsecurity=False)
    try:
        make(b"").hexdigest()
    except (ValueError, TypeError) as error:  # TypeError: a hash of variable length, such as shake_128
        raise IdempotencyConfigError(f"hash_function={name!r} is no hash of fixed length in hashlib") from error
    return make


def _json_form(value: Any) -> Any:
    """What the encoder calls for a value of a type that JSON lacks."""
    return _forms().json_form(value)


@functools.cache  # an import statement, even of what is loaded, takes a microsecond
def _forms() -> Any:
    from retrysafe._keys import forms  # noqa: PLC0415  # a payload of JSON types never needs it

    return forms


_encoded: Final = prepared_encoder(_json_form, allow_nan=True)
