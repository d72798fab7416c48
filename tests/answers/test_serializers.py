"""Output serializers: how an answer becomes a dict and an answer again, out of our records and the peer's."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import inspect
import json
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, Optional, TypedDict, TypeVar

import pydantic
import pytest

from retrysafe.answers import AnswerCodec, StoredAnswer, UnstorableAnswerError
from retrysafe.exceptions import (
    IdempotencyConfigError,
    IdempotencyModelTypeError,
    IdempotencyNoSerializationModelError,
    IdempotencyPersistenceConsistencyError,
)
from retrysafe.serialization.base import BaseIdempotencyModelSerializer, serializer_for
from retrysafe.serialization.custom_dict import CustomDictSerializer
from retrysafe.serialization.dataclass import DataclassSerializer
from retrysafe.serialization.functions import get_actual_type
from retrysafe.serialization.no_op import NoOpSerializer
from retrysafe.serialization.pydantic import PydanticSerializer
from support.exactness import same

if TYPE_CHECKING:
    from somewhere_else import Unheard

    from retrysafe.serialization.base import BaseIdempotencySerializer

Item = TypeVar("Item")


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: str = "EUR"


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


# All of them


@pytest.mark.parametrize(
    "serializer",
    [
        NoOpSerializer(),
        CustomDictSerializer(pytest.fail, pytest.fail),
        DataclassSerializer(Order),
        PydanticSerializer(Invoice),
    ],
    ids=lambda serializer: type(serializer).__name__,
)
def test_none_never_goes_to_a_serializer(serializer):
    codec = AnswerCodec(serializer=serializer)

    assert codec.encode(None) == StoredAnswer("null", "", ())
    assert codec.decode("null", "") is None
    assert codec.decode("", "") is None


def test_without_change_every_answer_comes_back():
    answer = {"a": (1, Decimal(2), {3})}

    assert same(replayed(answer, NoOpSerializer()), answer)


def test_two_functions_get_types_back_that_json_lacks():
    serializer = CustomDictSerializer(
        to_dict=lambda money: {("amount",): money.amount}, from_dict=lambda data: Money(data[("amount",)])
    )

    assert replayed(Money(Decimal("1.50")), serializer) == Money(Decimal("1.50"))


def test_what_the_serializer_makes_none_of_comes_back_through_it():
    serializer = CustomDictSerializer(lambda _: None, lambda data: ("made of", data))

    assert replayed(1, serializer) == ("made of", None)


def test_a_serializer_that_refuses_an_answer_makes_it_one_that_cannot_be_stored():
    def refuse(_: Any) -> Any:
        raise RuntimeError("private")

    with pytest.raises(UnstorableAnswerError) as caught:
        AnswerCodec(serializer=CustomDictSerializer(refuse, refuse)).encode(1)

    assert str(caught.value) == "answer: int was refused by the output serializer (RuntimeError)"
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_serializer_that_cannot_read_an_answer_is_told_of():
    with pytest.raises(IdempotencyPersistenceConsistencyError) as caught:
        read_of_the_peer("{}", CustomDictSerializer(dict, lambda data: data["missing"]))

    assert isinstance(caught.value.__cause__, KeyError)


# Dataclasses


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


# Pydantic models


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


# The option output_serializer


def returns_order() -> Order:
    raise NotImplementedError


def returns_order_or_none() -> Order | None:
    raise NotImplementedError


def returns_optional_order() -> Optional[Order]:  # noqa: UP045  # the older spelling is meant
    raise NotImplementedError


def returns_annotated_order(unheard: Unheard) -> Annotated[Order, "doc"]:
    raise NotImplementedError


def returns_invoice() -> Invoice | None:
    raise NotImplementedError


def returns_dict() -> dict[str, Any]:
    raise NotImplementedError


def returns_either() -> Order | Money:
    raise NotImplementedError


def returns_nothing() -> None:
    raise NotImplementedError


def returns_unheard() -> Unheard:
    raise NotImplementedError


def says_nothing():
    raise NotImplementedError


@pytest.mark.parametrize(
    "function",
    [returns_order, returns_order_or_none, returns_optional_order, returns_annotated_order],
    ids=lambda function: function.__name__,
)
def test_a_class_of_serializer_takes_its_model_from_the_return_annotation(function):
    serializer = serializer_for(DataclassSerializer, function)

    assert isinstance(serializer, DataclassSerializer)
    assert serializer.model is Order


def test_a_class_of_pydantic_serializer_does_so_too():
    serializer = serializer_for(PydanticSerializer, returns_invoice)

    assert replayed(invoice(), serializer) == invoice()


def test_an_instance_is_taken_as_it_is_and_none_is_none():
    serializer = NoOpSerializer()

    assert serializer_for(serializer, says_nothing) is serializer
    assert serializer_for(None, says_nothing) is None


@pytest.mark.parametrize("function", [says_nothing, returns_nothing, returns_unheard], ids=lambda f: f.__name__)
@pytest.mark.parametrize("serializer", [DataclassSerializer, PydanticSerializer])
def test_without_a_return_annotation_there_is_no_model(serializer, function):
    with pytest.raises(IdempotencyNoSerializationModelError):
        serializer_for(serializer, function)


@pytest.mark.parametrize("model_type", [None, inspect.Signature.empty])
@pytest.mark.parametrize("serializer", [DataclassSerializer, PydanticSerializer])
def test_instantiate_needs_a_model(serializer, model_type):
    with pytest.raises(IdempotencyNoSerializationModelError):
        serializer.instantiate(model_type)


@pytest.mark.parametrize(
    ("serializer", "function"),
    [
        (DataclassSerializer, returns_dict),
        (DataclassSerializer, returns_either),
        (DataclassSerializer, returns_invoice),
        (PydanticSerializer, returns_dict),
        (PydanticSerializer, returns_order),
    ],
)
def test_a_return_annotation_of_another_kind_is_refused(serializer, function):
    with pytest.raises(IdempotencyModelTypeError, match=serializer.__name__):
        serializer_for(serializer, function)


@pytest.mark.parametrize("model", [dict, order(), Invoice, "Order", None])
def test_a_dataclass_serializer_is_not_made_without_a_dataclass(model):
    with pytest.raises(IdempotencyModelTypeError):
        DataclassSerializer(model)


@pytest.mark.parametrize("model", [dict, invoice(), Order, "Invoice", None])
def test_a_pydantic_serializer_is_not_made_without_a_model(model):
    with pytest.raises(IdempotencyModelTypeError):
        PydanticSerializer(model)


@pytest.mark.parametrize("value", [NoOpSerializer, dict, "pydantic", 5, Order], ids=repr)
def test_any_other_value_is_refused_by_its_option_and_itself(value):
    with pytest.raises(IdempotencyConfigError, match="output_serializer") as caught:
        serializer_for(value, returns_order)

    assert repr(value) in str(caught.value)


def test_an_own_class_of_model_serializer_is_instantiated_likewise():
    class Own(BaseIdempotencyModelSerializer):
        def __init__(self, model_type: Any) -> None:
            self.model_type = model_type

        @classmethod
        def instantiate(cls, model_type: Any) -> Own:
            return cls(model_type)

        to_dict = from_dict = None  # type: ignore[assignment]

    made = [serializer_for(Own, each).model_type for each in (returns_order_or_none, says_nothing, returns_nothing)]

    assert made == [Order | None, None, None]  # what it makes of None is its own matter


@pytest.mark.parametrize("annotation", [Order, Order | None, Optional[Order]])  # noqa: UP045  # the older spelling is meant
def test_one_s_own_finds_its_model_with_the_function_that_powertools_has_for_it(annotation):
    assert get_actual_type(annotation) is Order


def test_that_function_takes_no_annotation_for_none_and_refuses_a_choice():
    assert get_actual_type(None) is None
    with pytest.raises(IdempotencyModelTypeError, match="Invoice"):
        get_actual_type(Order | Invoice | None)
