"""How failures named in `replay_exceptions` are stored, and come back to be raised again."""

from __future__ import annotations

import dataclasses
import enum
import json
from decimal import Decimal
from typing import Self

import pytest

from retrysafe.answers import UnstorableAnswerError
from retrysafe.exceptions import IdempotencyKeyError, IdempotencyPersistenceConsistencyError
from retrysafe.failures import decode_failure, encode_failure
from support.exactness import same


class Reason(enum.Enum):
    LIMIT = "limit"


class DeclinedError(Exception):
    """Words its message itself, from keywords; doing so twice would show."""

    def __init__(self, *, code: str, amount: Decimal) -> None:
        super().__init__(f"declined: {code}")
        self.code = code
        self.amount = amount


class QuotaError(DeclinedError):
    def __str__(self) -> str:
        return f"over quota ({self.args[0]})"


class OwnTextError(Exception):
    def __init__(self, code: int) -> None:
        self.code = code

    def __str__(self) -> str:
        return f"code {self.code}"


class SlottedError(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class CountingError(Exception):
    made = 0

    def __new__(cls, *args: object) -> Self:
        cls.made += 1
        return super().__new__(cls, *args)


class TextOfReasonError(Exception):
    def __str__(self) -> str:
        return self.reason.text  # type: ignore[attr-defined]


class MissingFileError(FileNotFoundError):
    def __init__(self, name: str, *, hint: str) -> None:
        super().__init__(2, "gone", name)
        self.hint = hint


class HiddenError(Exception):
    def __init__(self) -> None:
        self.__dict__["code"] = 7

    @property
    def code(self) -> int:
        return self.__dict__["code"]


@dataclasses.dataclass
class FieldsError(Exception):
    reason: Reason
    amount: Decimal


def noted(error: BaseException) -> BaseException:
    error.add_note("a note")
    return error


def replayed(error, replay_exceptions=None):
    named = replay_exceptions or (type(error),)
    stored = encode_failure(error, named)
    json.loads(stored.data, parse_constant=pytest.fail)
    return decode_failure(stored.data, stored.types, named)


@pytest.mark.parametrize(
    "error",
    [
        Exception(),
        ValueError("a", 1, (2,), Decimal(3), None),
        KeyError("a"),
        KeyError(("a", 1)),
        OSError(2, "gone"),
        OSError(2, "gone", "a.txt", None, "b.txt"),
        OSError("only text"),
        FileNotFoundError(2, "gone", "a.txt"),
        BlockingIOError(11, "later", 5),
        ImportError("no", name="module", path="where"),
        StopIteration(5),
        SystemExit(3),
        KeyboardInterrupt(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad byte"),
        SyntaxError("bad", ("file.py", 3, 4, "text", 3, 5)),
        IdempotencyKeyError("a", "b"),
        DeclinedError(code="limit", amount=Decimal("1.50")),
        QuotaError(code="limit", amount=Decimal("1.50")),
        OwnTextError(5),
        SlottedError(5),
        MissingFileError("a.txt", hint="look elsewhere"),
        HiddenError(),
        FieldsError(Reason.LIMIT, Decimal(2)),
        noted(ValueError("a")),
    ],
    ids=lambda error: f"{type(error).__name__}{error.args}",
)
def test_a_failure_comes_back_with_its_text_arguments_and_attributes(error):
    back = replayed(error)

    assert type(back) is type(error)
    assert str(back) == str(error)
    assert same(back.args, error.args)
    assert same(vars(back), vars(error))
    for name in (
        "errno",
        "filename",
        "filename2",
        "characters_written",
        "name",
        "path",
        "value",
        "lineno",
        "code",
    ):
        assert getattr(back, name, None) == getattr(error, name, None)


def test_no_method_of_the_class_is_run_to_make_it():
    error = CountingError("a")

    # Once here and never in between: neither to check what was stored nor to read it.
    assert replayed(error).args == ("a",)
    assert CountingError.made == 1


def test_what_is_stored_is_an_object_that_a_person_can_read():
    stored = encode_failure(DeclinedError(code="limit", amount=Decimal("1.50")), (ValueError, DeclinedError))

    assert json.loads(stored.data) == {
        "args": ["declined: limit"],
        "class": "DeclinedError",
        "index": 1,
        "message": "declined: limit",
        "state": {"amount": "1.50", "code": "limit"},
    }
    assert stored.types == '{"v":1,"t":["dict",{"state":["dict",{"amount":"Decimal"}]}]}'


def test_an_attribute_without_a_stored_form_is_left_out():
    error = DeclinedError(code="limit", amount=Decimal(1))
    error.response = object()  # type: ignore[attr-defined]

    assert vars(replayed(error)) == {"code": "limit", "amount": Decimal(1)}


def test_the_own_class_goes_before_a_base_class_and_the_first_base_class_before_others():
    error = FileNotFoundError(2, "gone")

    assert json.loads(encode_failure(error, (OSError, FileNotFoundError)).data)["index"] == 1
    assert json.loads(encode_failure(error, (ValueError, OSError, Exception)).data)["index"] == 1


def test_a_subclass_comes_back_as_the_class_that_is_named():
    class TooMuchError(DeclinedError):
        pass

    back = replayed(TooMuchError(code="limit", amount=Decimal(1)), (DeclinedError,))

    assert type(back) is DeclinedError
    assert (str(back), back.code) == ("declined: limit", "limit")


@pytest.mark.parametrize(
    ("error", "named"),
    [(KeyError("a"), LookupError), (QuotaError(code="limit", amount=Decimal(1)), DeclinedError)],
    ids=["KeyError", "QuotaError"],
)
def test_a_subclass_that_words_itself_otherwise_keeps_its_text(error, named):
    back = replayed(error, (named,))

    assert type(back) is named
    assert str(back) == str(error)


def test_a_subclass_with_arguments_that_cannot_be_stored_keeps_its_text():
    class WithResponseError(ValueError):
        def __str__(self) -> str:
            return "refused"

    assert str(replayed(WithResponseError(object()), (ValueError,))) == "refused"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("private", object()), 'failure["args"][1]: object cannot be stored'),
        (KeyError(Reason.LIMIT), "failure: KeyError would not come back with the same text"),
        (TypeError("private"), "failure: TypeError is not named in replay_exceptions"),
        (
            TextOfReasonError(),
            f"failure: {__name__}.TextOfReasonError cannot be looked through (AttributeError)",
        ),
        (ExceptionGroup("private", [ValueError()]), 'failure["args"][1][0]: ValueError cannot be stored'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_failure_that_would_come_back_otherwise_is_refused_by_place_and_type(error, words):
    with pytest.raises(UnstorableAnswerError) as caught:
        encode_failure(error, (ValueError, KeyError, TextOfReasonError, ExceptionGroup))

    assert str(caught.value) == words


def test_a_text_that_needs_what_cannot_be_stored_is_refused():
    error = TextOfReasonError()
    error.reason = type("Reason", (), {"text": "private"})()  # type: ignore[attr-defined]

    with pytest.raises(UnstorableAnswerError):
        encode_failure(error, (TextOfReasonError,))


def test_a_class_that_moved_in_replay_exceptions_is_found_by_its_name():
    stored = encode_failure(DeclinedError(code="a", amount=Decimal(1)), (DeclinedError,))

    for named in ((ValueError, DeclinedError), (DeclinedError, ValueError)):
        assert type(decode_failure(stored.data, stored.types, named)) is DeclinedError


def test_a_class_that_is_not_named_any_more_is_not_made():
    stored = encode_failure(DeclinedError(code="a", amount=Decimal(1)), (DeclinedError,))

    for named in ((), (ValueError,), (ValueError, KeyError)):
        assert decode_failure(stored.data, stored.types, named) is None


def test_of_two_classes_of_one_name_only_the_one_in_its_place_is_made():
    one, two = (type("TwinError", (Exception,), {}) for _ in range(2))
    stored = encode_failure(two("a"), (one, two))

    assert type(decode_failure(stored.data, stored.types, (one, two))) is two
    assert decode_failure(stored.data, stored.types, (ValueError, KeyError, one, two)) is None


def test_a_class_that_cannot_hold_the_failure_any_more_is_not_made():
    was = type("ChangedError", (Exception,), {})
    now = type("ChangedError", (UnicodeDecodeError,), {})
    stored = encode_failure(was("a"), (was,))

    assert decode_failure(stored.data, stored.types, (now,)) is None


@pytest.mark.parametrize(
    ("data", "types"),
    [
        ("", ""),
        ("{", ""),
        ("[]", ""),
        ("null", ""),
        ("{}", ""),
        ('{"class": "ValueError"}', ""),
        ('{"class": "ValueError", "index": 0}', ""),
        ('{"class": "ValueError", "index": 0, "args": null, "state": {}}', ""),
        ('{"class": "ValueError", "index": 0, "args": [], "state": 5}', ""),
        ('{"class": "ValueError", "index": 0, "args": [], "state": {}}', '{"v":2,"t":null}'),
    ],
)
def test_what_cannot_be_read_is_refused(data, types):
    with pytest.raises(IdempotencyPersistenceConsistencyError):
        decode_failure(data, types, (ValueError,))
