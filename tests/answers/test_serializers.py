"""Output serializers: what holds for all of them, and how the option `output_serializer` names one."""

from __future__ import annotations

import dataclasses
import inspect
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Optional

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
from support.serialized import Invoice, Money, invoice, read_of_the_peer, replayed

if TYPE_CHECKING:
    from somewhere_else import Unheard


@dataclasses.dataclass
class Order:
    number: int
    price: Money


@dataclasses.dataclass
class DeclinedError(Exception):
    """None is made without its own `__init__`, so none would come back."""

    reason: str


def order() -> Order:
    return Order(1, Money(Decimal("1.50")))


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


@pytest.mark.parametrize(
    ("answer", "serializer"),
    [(order(), DataclassSerializer(Order)), (invoice(), PydanticSerializer(Invoice))],
    ids=["dataclass", "pydantic"],
)
def test_an_answer_that_was_stored_without_a_serializer_comes_back_through_the_one_of_its_model(answer, serializer):
    stored = AnswerCodec(return_type=type(answer)).encode(answer)

    assert same(AnswerCodec(serializer=serializer).decode(stored.data, stored.types), answer)


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


@pytest.mark.parametrize("model", [dict, order(), Invoice, DeclinedError, "Order", None])
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
