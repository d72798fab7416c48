"""The serializer of dataclasses: to a dict and back with all that is nested, out of our records and the peer's."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
from decimal import Decimal
from typing import Any, Generic, NamedTuple, Optional, TypedDict, TypeVar

import pytest

from retrysafe.answers import AnswerCodec
from retrysafe.exceptions import IdempotencyPersistenceConsistencyError
from retrysafe.serialization.dataclass import DataclassSerializer
from support.exactness import same
from support.serialized import Money, read_of_the_peer, replayed

Item = TypeVar("Item")


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Gift:
    card: str


class Pair(NamedTuple):
    money: Money
    count: int


class Row(TypedDict):
    money: Money


@dataclasses.dataclass
class Order:
    """Its `__post_init__` must not run a second time."""

    number: int
    price: Money
    prices: list[Money]
    by_name: dict[str, Money]
    both: tuple[Money, str]
    many: tuple[Money, ...]
    pair: Pair
    row: Row
    inside: Money | Gift | dict[str, int]
    colour: Colour = Colour.RED
    parent: Optional[Order] = None  # noqa: UP045  # the older spelling is meant
    anything: Any = None
    total: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.total = self.number + 1
        self.number += 1


@dataclasses.dataclass
class Page(Generic[Item]):
    items: list[Item]
    next: Page[Item] | None = None


def order(number: int = 1) -> Order:
    money = Money(Decimal("1.50"))
    return Order(
        number,
        money,
        [money],
        {"a": money},
        (money, "b"),
        (money, money),
        Pair(money, 2),
        {"money": money},
        Gift("c"),
        parent=order(number - 1) if number else None,
    )


def test_a_dataclass_comes_back_with_all_that_is_nested_in_it():
    assert same(replayed(order(3), DataclassSerializer(Order)), order(3))


def test_a_dataclass_goes_to_a_dict_of_dicts():
    assert DataclassSerializer(Order).to_dict(order()) == dataclasses.asdict(order())


def test_a_record_of_the_peer_gives_the_nested_dataclasses_that_the_peer_loses():
    data = json.dumps(dataclasses.asdict(order()), sort_keys=True, default=lambda v: getattr(v, "value", str(v)))

    back = read_of_the_peer(data, DataclassSerializer(Order))

    money = Money("1.50")  # type: ignore[arg-type]  # a Decimal comes as a string, as it does to the peer
    assert back.price == back.prices[0] == back.by_name["a"] == back.both[0] == back.many[1] == money
    assert back.row == {"money": money}
    assert back.inside == Gift("c")
    assert type(back.parent) is Order


def test_a_generic_dataclass_gives_its_parameters_to_its_fields():
    answer = Page([Money(Decimal(1))], Page([Money(Decimal(2))]))

    assert same(replayed(answer, DataclassSerializer(Page[Money])), answer)


@pytest.mark.parametrize(
    "inside", [Gift("a"), Money(Decimal(1)), Money(Decimal(1), "USD"), {"card": 1, "more": 2}, {}], ids=repr
)
def test_in_a_union_the_fields_tell_which_dataclass_it_was(inside):
    answer = order()
    answer.inside = inside

    assert same(replayed(answer, DataclassSerializer(Order)).inside, inside)


def test_a_value_of_another_type_than_annotated_stays_as_it_is():
    answer = order()
    answer.prices = answer.by_name = answer.price = "none"  # type: ignore[assignment]

    assert same(replayed(answer, DataclassSerializer(Order)), answer)


@dataclasses.dataclass
class Payment:
    """Its `__post_init__` makes of a record what the function had returned, as is needed with Powertools."""

    amount: Decimal
    on: dt.date
    by: Gift | dict[str, Any]
    parts: list[Money] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.amount = Decimal(self.amount)
        self.on = dt.date.fromisoformat(str(self.on))
        if isinstance(self.by, dict):
            self.by = Gift(**self.by)


@dataclasses.dataclass(init=False)
class Made:
    amount: Decimal

    def __init__(self, amount: Any) -> None:
        self.amount = Decimal(amount)


PAYMENT = Payment(Decimal("1.50"), dt.date(2026, 1, 2), Gift("c"))
PAYMENT_OF_THE_PEER = '{"amount": "1.50", "by": {"card": "c"}, "on": "2026-01-02", "parts": []}'


def test_a_dataclass_of_the_peer_is_made_by_its_own_code_as_the_peer_makes_it():
    codec = AnswerCodec(serializer=DataclassSerializer(Payment))
    assert codec.encode(PAYMENT).data == PAYMENT_OF_THE_PEER
    assert same(codec.decode(PAYMENT_OF_THE_PEER, "", is_peers=True), PAYMENT)
    made = AnswerCodec(serializer=DataclassSerializer(Made)).decode('{"amount": "1.50"}', "", is_peers=True)
    assert same(made.amount, Decimal("1.50"))


def test_nested_dataclasses_come_back_there_too():
    parts = PAYMENT_OF_THE_PEER.replace("[]", '[{"amount": 5, "currency": "EUR"}]')
    back = AnswerCodec(serializer=DataclassSerializer(Payment)).decode(parts, "", is_peers=True)
    assert back.parts == [Money(5)]  # type: ignore[arg-type]
    assert same(back.amount, Decimal("1.50"))


def test_its_own_code_does_not_run_where_it_would_make_another_answer_or_types_are_told():
    codec = AnswerCodec(serializer=DataclassSerializer(Order))
    stored = codec.encode(order())
    assert codec.decode(stored.data, "", is_peers=True).number == order().number
    assert same(codec.decode(stored.data, stored.types), order())
    without = AnswerCodec(serializer=DataclassSerializer(Payment)).decode(PAYMENT_OF_THE_PEER, "")
    assert without.amount == "1.50"


def test_a_subclass_of_the_serializer_that_reads_in_its_own_way_does_so_there_too():
    class Own(DataclassSerializer):
        def from_dict(self, data: dict[str, Any]) -> Any:
            return data["amount"]

    assert AnswerCodec(serializer=Own(Payment)).decode(PAYMENT_OF_THE_PEER, "", is_peers=True) == "1.50"


def test_a_dataclass_of_the_peer_without_a_field_takes_its_default_or_is_refused():
    assert read_of_the_peer('{"amount": 1}', DataclassSerializer(Money)) == Money(1, "EUR")  # type: ignore[arg-type]
    for data in ('{"currency": "EUR"}', "[]", '"text"'):
        with pytest.raises(IdempotencyPersistenceConsistencyError):
            read_of_the_peer(data, DataclassSerializer(Money))
