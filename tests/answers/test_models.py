"""Pydantic models as answers: stored as the peer stores them, and back with all that they hold."""

from __future__ import annotations

import datetime as dt
import json
import threading
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar

import pydantic
import pytest

from retrysafe.answers import AnswerCodec, UnstorableAnswerError
from support.answers import Colour, InvoiceLine, Line, Money, Names, codec_for, replayed
from support.exactness import same

Item = TypeVar("Item")


class Invoice(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    when: dt.datetime
    net: Decimal = pydantic.Field(alias="NetAmount")
    lines: list[InvoiceLine] = []
    colour: Colour = Colour.RED
    period: dt.timedelta = dt.timedelta(days=30)
    raw: bytes = b"raw"
    tags: set[int] = set()
    internal: int = pydantic.Field(0, exclude=True)
    link: pydantic.HttpUrl | None = None
    _seen: list[int] = pydantic.PrivateAttr(default_factory=list)
    _lock: Any = pydantic.PrivateAttr(default_factory=threading.Lock)

    @pydantic.computed_field
    @property
    def gross(self) -> Decimal:
        return self.net * 2

    @pydantic.field_serializer("period")
    def in_days(self, period: dt.timedelta) -> str:
        return f"about {period.days} days"


class Sheet(pydantic.BaseModel, Generic[Item]):
    items: list[Item]


class Early(pydantic.BaseModel):
    """Used by one test only, as its first use is what that test is about."""

    later: list[Later]


class Later(pydantic.BaseModel):
    price: Decimal


def some_invoice() -> Invoice:
    invoice = Invoice.model_validate(
        {
            "when": "2026-01-02T03:04:05Z",
            "NetAmount": "1.50",
            "lines": [{"What": "book", "price": "2"}],
            "tags": [3, 1],
            "internal": 7,
            "link": "https://example.org/a",
            "extra": {"a": (1,)},
        }
    )
    invoice._seen.append(4)
    return invoice


def test_a_model_comes_back_with_aliases_extra_excluded_private_and_strange_fields():
    codec = codec_for(Invoice)
    stored = codec.encode(some_invoice())
    back = codec.decode(stored.data, stored.types)

    assert back.model_fields_set == some_invoice().model_fields_set
    assert (back.internal, back.link, back.extra, back._seen) == (7, some_invoice().link, {"a": (1,)}, [4])
    assert back.lines == some_invoice().lines  # the validator has not added another exclamation mark
    assert back._lock.acquire(blocking=False)  # what cannot be stored has its default
    back._lock = some_invoice()._lock
    original = some_invoice()
    original._lock = back._lock
    assert back == original


def test_a_model_is_stored_as_the_peer_stores_it():
    data = codec_for(Invoice).encode(some_invoice()).data

    assert data == json.dumps(some_invoice().model_dump(mode="json"), sort_keys=True)
    assert data == AnswerCodec().encode(some_invoice()).data


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (Names([Decimal("1.5")]), Names),
        (Sheet[InvoiceLine](items=[InvoiceLine(What="a", price=1)]), Sheet[InvoiceLine]),
        (Sheet(items=[InvoiceLine(What="a", price=1)]), Sheet[InvoiceLine]),
        (Line("a", Money(Decimal(1))), Annotated[Line, "doc"]),
        ({"a": [InvoiceLine(What="a", price=1)]}, dict[str, list[InvoiceLine]]),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_models_of_every_make_come_back(answer, named):
    assert same(replayed(answer, codec_for(named)), answer)


def test_a_model_that_pydantic_cannot_dump_is_stored_by_its_fields():
    class Blob(pydantic.BaseModel):
        raw: bytes

    stored = codec_for(Blob).encode(Blob(raw=b"\xff"))

    assert stored.data == '{"raw": "/w=="}'
    assert codec_for(Blob).decode(stored.data, stored.types) == Blob(raw=b"\xff")


def test_a_field_that_only_pydantic_knows_comes_back_beside_one_that_it_cannot_dump():
    class Scan(pydantic.BaseModel):
        raw: bytes
        found_at: pydantic.AnyUrl

    scan = Scan(raw=b"\xff", found_at="https://example.org/a")

    assert replayed(scan, codec_for(Scan)) == scan


def test_a_model_that_names_a_later_one_is_understood_before_its_first_use():
    types = '{"v":1,"t":["model","Early",{"later":["list",[["model","Later",{"price":"Decimal"}]]]}]}'

    back = codec_for(Early).decode('{"later": [{"price": "1.5"}]}', types)

    assert same(back, Early(later=[Later(price=Decimal("1.5"))]))


def test_a_private_attribute_added_with_a_default_that_looks_at_the_fields_takes_it():
    class Was(pydantic.BaseModel):
        a: int

    class Is(pydantic.BaseModel):
        a: int
        b: list[int] = pydantic.Field(default_factory=lambda fields: [fields["a"]])
        _c: str = pydantic.PrivateAttr(default="c")

    stored = codec_for(Was).encode(Was(a=1))
    back = codec_for(Is).decode(stored.data, stored.types.replace(Was.__qualname__, Is.__qualname__))

    assert (back.a, back.b, back._c) == (1, [1], "c")


def test_a_secret_is_refused_rather_than_stored_as_asterisks_or_in_clear():
    class Login(pydantic.BaseModel):
        password: pydantic.SecretStr

    with pytest.raises(UnstorableAnswerError, match=r"answer\.password: pydantic\.types\.SecretStr") as caught:
        codec_for(Login).encode(
            Login(password="hidden")  # noqa: S106  # no real one
        )

    assert "hidden" not in str(caught.value)
