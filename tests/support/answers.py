"""Classes of answers, and how tests store an answer and read it again."""

from __future__ import annotations

import dataclasses
import enum
from decimal import Decimal
from typing import Any, NamedTuple

import pydantic

from retrysafe.answers import AnswerCodec


class Colour(enum.Enum):
    RED = "red"
    MIXED = (1, 2)
    SAME = "red"  # noqa: PIE796  # an alias is meant


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Money:
    amount: Decimal
    currency: str = "EUR"


@dataclasses.dataclass
class Line:
    what: str
    price: Money
    tags: set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Order:
    number: int
    lines: list[Line]
    colour: Colour | None = None
    parent: Order | None = None


@dataclasses.dataclass
class WithFee:
    """Its `__post_init__` must not run a second time."""

    amount: int
    fee: dataclasses.InitVar[int]
    total: int = dataclasses.field(init=False)

    def __post_init__(self, fee: int) -> None:
        self.total = self.amount + fee
        self.amount += fee
        self.beside = ("not", "a", "field")


class InvoiceLine(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)

    what: str = pydantic.Field(alias="What")
    price: Decimal

    @pydantic.field_validator("what")
    @classmethod
    def adds(cls, what: str) -> str:
        return what + "!"


class Names(pydantic.RootModel[list[Decimal]]):
    pass


def codec_for(return_type: Any) -> AnswerCodec:
    return AnswerCodec(return_type=return_type)


def replayed(answer: Any, codec: AnswerCodec | None = None) -> Any:
    codec = codec or AnswerCodec()
    stored = codec.encode(answer)
    return codec.decode(stored.data, stored.types)
