"""Answers for output serializers, and how tests store one and read it again, also as the peer wrote it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pydantic
import pytest

from retrysafe.answers import AnswerCodec

if TYPE_CHECKING:
    from retrysafe.serialization.base import BaseIdempotencySerializer


@dataclasses.dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: str = "EUR"


class Invoice(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    when: dt.datetime
    net: Decimal = pydantic.Field(alias="NetAmount")
    lines: list[InvoiceLine]
    limit: float = float("inf")

    @pydantic.computed_field
    @property
    def gross(self) -> Decimal:
        return self.net * 2


class InvoiceLine(pydantic.BaseModel):
    what: str = pydantic.Field(alias="What")
    tags: set[int] = set()


def invoice() -> Invoice:
    return Invoice(
        when=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        NetAmount=Decimal("1.5"),
        lines=[InvoiceLine(What="book", tags={1, 2})],
    )


def replayed(answer: Any, serializer: BaseIdempotencySerializer) -> Any:
    codec = AnswerCodec(serializer=serializer)
    stored = codec.encode(answer)
    json.loads(stored.data, parse_constant=pytest.fail)
    return codec.decode(stored.data, stored.types)


def read_of_the_peer(data: str, serializer: BaseIdempotencySerializer) -> Any:
    return AnswerCodec(serializer=serializer).decode(data, "", is_peers=True)
