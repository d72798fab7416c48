"""The serializer of Pydantic's models: to a dict and back, out of our records and the peer's."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from typing import Any

import pydantic
import pytest

from retrysafe.answers import AnswerCodec
from retrysafe.exceptions import IdempotencyPersistenceConsistencyError
from retrysafe.serialization.pydantic import PydanticSerializer
from support.serialized import Invoice, InvoiceLine, invoice, read_of_the_peer, replayed


def test_a_model_with_aliases_computed_fields_and_strict_types_comes_back():
    back = replayed(invoice(), PydanticSerializer(Invoice))

    assert back == invoice()
    assert type(back.lines[0].tags) is set


def test_a_model_of_the_peer_comes_back():
    data = json.dumps(invoice().model_dump(mode="json"), sort_keys=True)

    assert '"gross"' in data
    assert "NetAmount" not in data
    assert read_of_the_peer(data, PydanticSerializer(Invoice)) == invoice()


def test_a_model_is_stored_under_its_field_names():
    assert AnswerCodec(serializer=PydanticSerializer(InvoiceLine)).encode(InvoiceLine(What="a")).data == (
        '{"tags": [], "what": "a"}'
    )


def test_fields_whose_aliases_are_each_others_names_are_not_mixed_up():
    class Swapped(pydantic.BaseModel):
        a: int = pydantic.Field(alias="b")
        b: int = pydantic.Field(alias="a")

    assert replayed(Swapped(a=1, b=2), PydanticSerializer(Swapped)) == Swapped(a=1, b=2)


class ByAlias(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True)

    order_id: int | None = pydantic.Field(None, alias="orderId")


class ByAliasOfDumps(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True)

    order_id: int | None = pydantic.Field(None, serialization_alias="orderId")


class AliasWithin(pydantic.BaseModel):
    inner: list[ByAlias]
    outer_id: int = pydantic.Field(0, alias="outerId")


@pytest.mark.parametrize(
    ("answer", "data"),
    [
        (ByAlias(orderId=3), '{"orderId": 3}'),
        (ByAliasOfDumps(order_id=3), '{"order_id": 3}'),
        (AliasWithin(inner=[ByAlias(orderId=3)], outerId=5), '{"inner": [{"orderId": 3}], "outer_id": 5}'),
    ],
)
def test_a_model_that_is_dumped_by_its_aliases_comes_back(answer, data):
    serializer = PydanticSerializer(type(answer))

    assert AnswerCodec(serializer=serializer).encode(answer).data == data
    assert replayed(answer, serializer) == answer


def test_a_model_that_the_peer_dumped_by_its_aliases_comes_back():
    data = json.dumps(ByAlias(orderId=3).model_dump(mode="json"))

    assert read_of_the_peer(data, PydanticSerializer(ByAlias)) == ByAlias(orderId=3)


def test_a_root_model_comes_back():
    class Names(pydantic.RootModel[list[str]]):
        pass

    assert replayed(Names(["a"]), PydanticSerializer(Names)) == Names(["a"])


def test_a_model_with_what_pydantic_or_python_cannot_put_into_a_json_text_comes_back():
    class Odd(pydantic.BaseModel):
        anything: Any

    for anything in ("half a pair: \ud83d", 10**5000):
        assert replayed(Odd(anything=anything), PydanticSerializer(Odd)) == Odd(anything=anything)


def test_a_field_with_json_of_its_own_that_is_not_valid_is_refused():
    class Nested(pydantic.BaseModel):
        text: pydantic.Json[int]

    with pytest.raises(IdempotencyPersistenceConsistencyError):
        read_of_the_peer('{"text": "{"}', PydanticSerializer(Nested))


def test_a_record_that_is_not_valid_is_refused():
    with pytest.raises(IdempotencyPersistenceConsistencyError) as caught:
        read_of_the_peer('{"what": 1}', PydanticSerializer(InvoiceLine))

    assert isinstance(caught.value.__cause__, pydantic.ValidationError)


def test_an_error_tells_where_a_record_is_not_valid_and_nothing_of_what_it_holds():
    class Payment(pydantic.BaseModel):
        cards: list[int]
        holder: str

        @pydantic.field_validator("holder")
        @classmethod
        def refuse(cls, holder: str) -> str:
            raise ValueError(f"{holder} is nobody")

    stored = '{"cards": [1, "4242-4242"], "holder": "Secretive"}'
    with pytest.raises(IdempotencyPersistenceConsistencyError) as caught:
        read_of_the_peer(stored, PydanticSerializer(Payment))

    told = "".join(traceback.format_exception(caught.value))
    assert "4242" not in told
    assert "Secretive" not in told
    details = caught.value.__cause__.errors()
    assert [(each["loc"], each["type"]) for each in details] == [
        (("cards", 1), "int_parsing"),
        (("holder",), "value_error"),
    ]
    assert caught.value.__cause__.__context__ is None


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("sys.modules['pydantic'] = None", "pip install 'retrysafe[pydantic]'"),
        (
            "fake = types.ModuleType('pydantic'); fake.VERSION = '2.10.6'; sys.modules['pydantic'] = fake",
            "needs pydantic 2.11 or later: pip install 'retrysafe[pydantic]'; 2.10.6 is installed",
        ),
    ],
    ids=["missing", "too old"],
)
def test_without_a_fitting_pydantic_the_import_says_what_to_install(block, words):
    program = f"import sys, types; {block}\nimport retrysafe.serialization.pydantic"

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert "ImportError" in result.stderr
    assert words in result.stderr
