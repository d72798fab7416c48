"""What cannot be stored is refused, by its place and type and never by a value."""

from __future__ import annotations

import array
import dataclasses
import pathlib
import threading
import uuid
from decimal import Decimal
from typing import Any

import pydantic
import pytest

from retrysafe.answers import AnswerCodec, UnstorableAnswerError
from support.answers import Line, Money, WithFee, codec_for, replayed


async def awaited() -> Money:
    raise NotImplementedError


def a_generator():
    yield 1


def a_circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (object(), "answer: object cannot be stored"),
        (
            {"a": [1, 2, 3, Line("x", Money(Decimal(1)), {3: object()})]},
            'answer["a"][3].tags[3]: object cannot be stored',
        ),
        ([a_generator()], "answer[0]: generator cannot be stored"),
        (
            {uuid.UUID(int=1): print},
            "answer[a key of type uuid.UUID]: builtin_function_or_method cannot be stored",
        ),
        ({"k" * 100: threading.Lock()}, f'answer["{"k" * 40}..."]: _thread.lock cannot be stored'),
        ({object(): 1}, "answer[a key of type object]: object cannot be stored"),
        ({(1, print)}, "answer[*][1]: builtin_function_or_method cannot be stored"),
        (array.array("i"), "answer: array.array cannot be stored"),
        (1j, "answer: complex cannot be stored"),
        (ValueError("private"), "answer: ValueError cannot be stored"),
        (Line, "answer: type cannot be stored"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_stored_is_refused_by_place_and_type(answer, words):
    with pytest.raises(UnstorableAnswerError) as caught:
        codec_for(Line).encode(answer)

    assert str(caught.value) == words


def test_a_coroutine_is_refused():
    coroutine = awaited()

    with pytest.raises(UnstorableAnswerError, match="answer: coroutine cannot be stored"):
        AnswerCodec().encode(coroutine)

    coroutine.close()


def test_an_open_file_is_refused():
    with (
        pathlib.Path(__file__).open(encoding="utf-8") as file,
        pytest.raises(UnstorableAnswerError, match=r'answer\["a"\]: _io\.TextIOWrapper cannot be stored'),
    ):
        AnswerCodec().encode({"a": file})


def test_a_value_within_itself_is_refused():
    with pytest.raises(UnstorableAnswerError, match="more than 100 levels deep, or contains itself"):
        AnswerCodec().encode(a_circle())


@pytest.mark.parametrize(
    "wrap", [lambda inner: [inner], lambda inner: {"a": inner}, lambda inner: {1: (inner,), "1": 1}]
)
def test_what_is_stored_can_be_read_however_deep_it_is(wrap):
    answer: Any = (1,)
    refused = 0
    for _ in range(150):
        answer = wrap(answer)
        try:
            stored = AnswerCodec().encode(answer)
        except UnstorableAnswerError:
            refused += 1
        else:
            assert AnswerCodec().decode(stored.data, stored.types) == answer
    assert 0 < refused < 110


def test_plain_json_may_be_deeper():
    answer: Any = 1
    for _ in range(500):
        answer = [answer]

    assert replayed(answer) == answer


def test_a_field_that_was_never_set_is_refused():
    @dataclasses.dataclass
    class Half:
        a: int = dataclasses.field(init=False)

    class HalfModel(pydantic.BaseModel):
        a: int

    for answer in (Half(), HalfModel.model_construct()):
        with pytest.raises(UnstorableAnswerError, match="has a field that was never set"):
            codec_for(type(answer)).encode(answer)


def test_a_dataclass_built_on_a_dict_is_refused():
    @dataclasses.dataclass
    class Half(dict):
        a: int

    with pytest.raises(UnstorableAnswerError, match="is built on a class of Python's own"):
        codec_for(Half).encode(Half(1))


def test_what_is_beside_the_fields_and_cannot_be_stored_is_refused_by_name():
    answer = WithFee(1, 2)
    answer.beside = object()  # type: ignore[assignment]

    with pytest.raises(UnstorableAnswerError, match=r"answer\.beside: object cannot be stored"):
        codec_for(WithFee).encode(answer)


def test_whatever_an_answer_raises_when_looked_through_the_error_is_one_and_without_its_words():
    class Trap(list):
        def __iter__(self):
            raise KeyboardError("private")

    class KeyboardError(Exception):
        pass

    with pytest.raises(UnstorableAnswerError, match=r"cannot be looked through \(KeyboardError\)") as caught:
        AnswerCodec().encode(Trap())

    assert "private" not in str(caught.value)
