"""Answers: how what a function returns becomes stored text, and comes back equal and of the same type.

Two texts are stored. `data` is plain JSON as a peer would store it, so that a peer can replay it. `types`
tells what JSON cannot; it is empty for an answer that is plain JSON, and only such an answer takes the short
way here. All others go through `retrysafe.exact`, most of which is imported for the first of them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from retrysafe.exact.errors import UnstorableAnswerError
from retrysafe.exact.marks import VERSION
from retrysafe.exceptions import IdempotencyPersistenceConsistencyError
from retrysafe.json_encoder import prepared_encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from retrysafe.exact.annotations import NamedClasses
    from retrysafe.serialization.base import BaseIdempotencySerializer

__all__ = ["AnswerCodec", "StoredAnswer", "UnstorableAnswerError"]


class StoredAnswer:
    """An answer as it is stored.

    Args:
        data: Plain JSON, as a peer would store it.
        types: What JSON cannot tell; "" for an answer that is plain JSON.
        plain: Qualified names of classes whose instances come back as plain values, as nothing names them.
    """

    __slots__ = ("data", "plain", "types")

    def __init__(self, data: str, types: str = "", plain: tuple[str, ...] = ()) -> None:
        self.data = data
        self.types = types
        self.plain = plain

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StoredAnswer):
            return NotImplemented
        return (self.data, self.types, self.plain) == (other.data, other.types, other.plain)

    __hash__ = None  # type: ignore[assignment]  # a value to compare, not to look up


class AnswerCodec:
    """Writes and reads the answers of one function. One object serves any number of threads.

    Args:
        function: The function. The classes that its return annotation names are restored on replay; the
            annotation is resolved only when an answer needs it, and one that cannot be resolved counts as
            none.
        serializer: The output serializer. Its `to_dict` result is what is stored, and its `from_dict` makes
            the answer of that again. None never goes to a serializer: it is stored as null and comes back as
            None.
        return_type: Instead of the function's return annotation: any type, already resolved.
        into_json: Whether the caller makes JSON of an answer. A subclass of dict, say, is to it what dict is, and
            nothing is lost that `plain` would have to tell.
    """

    __slots__ = ("_classes", "_function", "_into_json", "_return_type", "_serializer")

    def __init__(
        self,
        function: Callable[..., Any] | None = None,
        serializer: BaseIdempotencySerializer | None = None,
        return_type: Any = None,
        into_json: bool = False,
    ) -> None:
        self._function = function
        self._serializer = serializer
        self._return_type = return_type
        self._into_json = into_json
        self._classes: NamedClasses | None = None

    def encode(self, answer: Any) -> StoredAnswer:
        """The answer as it is stored; raises as `texts` does."""
        return StoredAnswer(*self.texts(answer))

    def texts(self, answer: Any) -> tuple[str, str, tuple[str, ...]]:
        """`data`, `types` and `plain` of the answer as it is stored, for first calls: they need no object of them.

        Raises:
            UnstorableAnswerError: Something in it has no stored form. Nothing else is ever raised: the work
                is done, and its caller is owed the answer.
        """
        if self._serializer is not None and answer is not None:
            answer = self._serialized(answer)
            if answer is None:
                # Marked, so that it is not read as the None that no serializer has seen.
                return "null", _types_text(["instead", None, None]), ()
        try:
            if _is_plain(answer):
                data = "".join(_json_pieces(answer, 0))
                # Only text with surrogates can come back as another than it was; see scalars.encode_str.
                if "\\ud" not in data or json.loads(data) == answer:
                    return data, "", ()
        except Exception:  # noqa: BLE001, S110  # nan, a list within itself: typed or refused below
            pass
        return self._typed_texts(answer)

    def _serialized(self, answer: Any) -> Any:
        serializer: Any = self._serializer
        try:
            return serializer.to_dict(answer)
        except Exception as error:
            raise UnstorableAnswerError(
                answer, f"was refused by the output serializer ({type(error).__name__})"
            ) from error

    def _typed_texts(self, answer: Any) -> tuple[str, str, tuple[str, ...]]:
        try:
            # The import may fail too: in a process that is at its limit of open files, or whose program was replaced.
            from retrysafe.exact.encode import Encoder  # noqa: PLC0415  # most answers never need it

            encoder = Encoder(self._named)
            plain, mark = encoder.encode(answer)
            data = _typed_json_text(plain)
            types = "" if mark is None else _types_text(mark)
        except UnstorableAnswerError:
            raise
        except Exception as error:  # a method of the user's classes raises, or the stack is used up
            raise UnstorableAnswerError(answer, f"cannot be looked through ({type(error).__name__})") from error
        is_lost = encoder.plain and not (self._into_json and _json_of(answer) == data)
        return data, types, tuple(encoder.plain) if is_lost else ()

    def decode(self, data: str, types: str, is_peers: bool = False) -> Any:
        """The answer that was stored as these two texts; None where `data` is empty.

        Args:
            data: As `StoredAnswer` has it.
            types: Likewise.
            is_peers: Whether no types could be told: a peer stored it, or a layer that was written for the peer.

        Raises:
            IdempotencyPersistenceConsistencyError: They cannot be read: malformed, of a version of `types`
                that is not known here, or refused by the serializer's `from_dict`.
        """
        if not data:
            return None
        try:
            answer, end = _read_json(data, 0)
            if end != len(data):
                answer = json.loads(data)  # blanks at the end, or more than one value
        except (ValueError, TypeError, RecursionError, StopIteration):
            answer = _read_again(data)
        if types:
            answer = self._decode_typed(answer, types)
        elif answer is None:
            return None
        if self._serializer is None:
            return answer
        from_dict: Any = self._serializer.from_dict
        if is_peers:
            from_dict = getattr(self._serializer, "from_peers_dict", from_dict)
        try:
            return from_dict(answer)
        except Exception as error:
            raise IdempotencyPersistenceConsistencyError(
                "the output serializer cannot read the stored answer", type(error).__name__
            ) from error

    def _decode_typed(self, plain: Any, types: str) -> Any:
        from retrysafe.exact.decode import Decoder  # noqa: PLC0415  # most answers never need it

        try:
            told = json.loads(types)
            version, mark = told["v"], told["t"]
        except (ValueError, TypeError, KeyError) as error:
            raise IdempotencyPersistenceConsistencyError("the stored answer's types cannot be read") from error
        except RecursionError as error:
            raise IdempotencyPersistenceConsistencyError(_TOO_DEEP) from error
        if version != VERSION:
            raise IdempotencyPersistenceConsistencyError(
                f"the stored answer's types are of version {version!r}, and only {VERSION} is known here"
            )
        try:
            return Decoder(self._named).decode(plain, mark)
        except RecursionError as error:
            raise IdempotencyPersistenceConsistencyError(_TOO_DEEP) from error
        except Exception as error:
            raise IdempotencyPersistenceConsistencyError(
                "the stored answer does not go together with its types, or with its classes as they are by now",
                type(error).__name__,
            ) from error

    def _named(self) -> NamedClasses:
        if self._classes is None:
            from retrysafe.exact.annotations import named_by  # noqa: PLC0415  # most answers never need it

            hints = [] if self._return_type is None else [self._return_type]
            model = getattr(self._serializer, "model", None)
            function = self._function if self._return_type is None else None
            self._classes = named_by([*hints, model], function)
        return self._classes


_PLAIN_LEAVES = frozenset({str, int, float, bool, type(None)})


def _is_plain(value: Any) -> bool:
    """Whether JSON has everything in the value, by exact type. Writing finds nan and the infinities."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]  # it can be any
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not (type(item) in _PLAIN_LEAVES or _is_plain(item)):
                return False
        return True
    if kind is list:
        for item in value:  # noqa: SIM110  # all() takes twice as long
            if not (type(item) in _PLAIN_LEAVES or _is_plain(item)):
                return False
        return True
    return kind in _PLAIN_LEAVES


def _json_of(value: Any) -> str | None:
    """What it is as JSON; None where JSON has no form for something in it."""
    try:
        return "".join(_json_pieces(value, 0))
    except Exception:  # noqa: BLE001  # a method of the user's classes raises
        return None


_json_pieces = prepared_encoder(allow_nan=False)
_typed_json_text = json.JSONEncoder(allow_nan=False, check_circular=False).encode  # dicts come sorted
_compact_text = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode
# What `JSONDecoder.raw_decode` calls; where there is no value it raises StopIteration.
_read_json: Callable[[str, int], tuple[Any, int]] = getattr(json.JSONDecoder(), "scan_once")  # noqa: B009  # untyped


_TOO_DEEP = "the stored answer is nested too deeply to be read here: call from less deep, or raise the recursion limit"
"""It could be written where less of the stack was used up."""


def _types_text(mark: Any) -> str:
    return _compact_text({"v": VERSION, "t": mark})


def _read_again(data: Any) -> Any:
    """JSON text that the short way could not read; blanks before it do no harm."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise IdempotencyPersistenceConsistencyError(_TOO_DEEP) from error
    except (json.JSONDecodeError, TypeError) as error:
        raise IdempotencyPersistenceConsistencyError("the stored answer is not JSON") from error
    except ValueError as error:  # it could be written where the limit is higher
        raise IdempotencyPersistenceConsistencyError(
            "the stored answer has a number of more digits than are read here: see sys.set_int_max_str_digits"
        ) from error
