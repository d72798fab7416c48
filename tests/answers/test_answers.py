"""How answers are stored and come back, type by type and rule by rule."""

from __future__ import annotations

import array
import collections
import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import json
import pathlib
import subprocess
import sys
import threading
import uuid
import zoneinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, NewType, Self, TypedDict, TypeVar

import pydantic
import pytest

from retrysafe import answers
from retrysafe.answers import AnswerCodec, UnstorableAnswerError
from retrysafe.exceptions import IdempotencyPersistenceConsistencyError
from support.exactness import same

if TYPE_CHECKING:
    from somewhere_else import Unheard

GOLDEN = json.loads(
    (pathlib.Path(__file__).parents[1] / "golden" / "powertools-python-3.37.0.json").read_text(encoding="utf-8")
)

ORDER_DATA = (
    '{"colour": [1, 2], "lines": [{"price": {"amount": "1", "currency": "EUR"}, "tags": ["x"], "what": "a"}],'
    ' "number": 1, "parent": {"colour": null, "lines": [], "number": 2, "parent": null}}'
)

Item = TypeVar("Item")


class Colour(enum.Enum):
    RED = "red"
    MIXED = (1, 2)
    SAME = "red"  # noqa: PIE796  # an alias is meant


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Shape(enum.StrEnum):
    ROUND = "round"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Oddity(enum.Enum):
    WHATEVER = ...


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


@dataclasses.dataclass
class Base:
    number: int


@dataclasses.dataclass
class Derived(Base):
    name: str = ""

    @functools.cached_property
    def shout(self) -> str:
        return self.name.upper()


@dataclasses.dataclass
class Page(Generic[Item]):
    items: list[Item]


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


class Sheet(pydantic.BaseModel, Generic[Item]):
    items: list[Item]


class Early(pydantic.BaseModel):
    """Used by one test only, as its first use is what that test is about."""

    later: list[Later]


class Later(pydantic.BaseModel):
    price: Decimal


class Row(TypedDict):
    money: Money


Cents = NewType("Cents", Money)


def codec_for(return_type: Any) -> AnswerCodec:
    return AnswerCodec(return_type=return_type)


def replayed(answer: Any, codec: AnswerCodec | None = None) -> Any:
    codec = codec or AnswerCodec()
    stored = codec.encode(answer)
    return codec.decode(stored.data, stored.types)


# Plain JSON, as the peer stores it


@pytest.mark.parametrize("golden", GOLDEN["responses"], ids=lambda golden: golden["response"])
def test_an_answer_is_stored_as_the_peer_stored_it_byte_for_byte(golden):
    answer = eval(golden["response"], {"Decimal": Decimal})  # noqa: S307  # the peer's answers, by their repr

    assert AnswerCodec().encode(answer).data == golden["stored_data"]


@pytest.mark.parametrize(
    "answer",
    [None, 0, "", [], {}, False, True, 1, -0.0, 1.5, "text", {"b": [1, {"a": None}], "a": "é"}, 10**600],
    ids=repr,
)
def test_plain_json_is_stored_without_types_and_comes_back(answer):
    stored = AnswerCodec().encode(answer)

    assert (stored.data, stored.types, stored.plain) == (json.dumps(answer, sort_keys=True), "", ())
    assert same(AnswerCodec().decode(stored.data, ""), answer)


def test_no_text_at_all_is_the_answer_none():
    assert AnswerCodec().decode("", "") is None


def test_a_record_of_the_peer_with_the_constants_that_it_writes_can_be_read():
    assert same(AnswerCodec().decode('{"a": [NaN, -Infinity]}', ""), {"a": [float("nan"), -float("inf")]})


def test_blanks_around_json_do_no_harm():
    assert AnswerCodec().decode(' {"a":1}\n', "") == {"a": 1}


def test_a_plain_answer_imports_nothing_that_only_other_answers_need():
    heavy = "asyncio datetime decimal dataclasses inspect pathlib pydantic uuid zoneinfo"
    program = (
        "import json, sys, typing, abc\n"
        f"heavy = set({heavy!r}.split()) - set(sys.modules)\n"  # what Python loads by itself is not ours
        "from retrysafe.answers import AnswerCodec\n"
        "import retrysafe.failures\n"
        "codec = AnswerCodec()\n"
        "stored = codec.encode({'a': [1]})\n"
        "codec.decode(stored.data, stored.types)\n"
        "print(heavy & set(sys.modules))\n"
    )

    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert shown == "set()\n"


# Types that JSON lacks


@pytest.mark.parametrize(
    ("answer", "data"),
    [
        ((1, (2,)), "[1, [2]]"),
        ({3, 1, 2}, "[1, 2, 3]"),
        (frozenset({"b", "a"}), '["a", "b"]'),
        (b"ab", '"YWI="'),
        (bytearray(b"ab"), '"YWI="'),
        (float("nan"), '"NaN"'),
        (-float("inf"), '"-Infinity"'),
        (Decimal("1.10"), '"1.10"'),
        (Decimal("-0"), '"-0"'),
        (Decimal("NaN"), '"NaN"'),
        (Decimal("-Infinity"), '"-Infinity"'),
        (Decimal("1E+3"), '"1E+3"'),
        (uuid.UUID(int=5), '"00000000-0000-0000-0000-000000000005"'),
        (dt.date(2026, 1, 2), '"2026-01-02"'),
        (dt.time(1, 2, 3), '"01:02:03"'),
        (dt.time(1, 2, tzinfo=dt.UTC), '"01:02:00+00:00"'),
        (dt.time(1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1), '"01:02:00"'),
        (dt.time(1, 2, tzinfo=dt.timezone(dt.timedelta(hours=-5), "EST")), '"01:02:00-05:00"'),
        (dt.datetime(2026, 1, 2, 3, 4, 5), '"2026-01-02T03:04:05"'),  # noqa: DTZ001  # a naive one is meant
        (dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC), '"2026-01-02T03:04:05.000006+00:00"'),
        (dt.timedelta(days=1, seconds=3661, microseconds=500000), '"P1DT1H1M1.5S"'),
        (dt.timedelta(seconds=-1), '"-PT1S"'),
        (dt.timedelta(0), '"PT0S"'),
        (dt.timedelta.max, '"P999999999DT23H59M59.999999S"'),
        (dt.timedelta.min, '"-P999999999D"'),
        (pathlib.PurePosixPath("/a/b"), '"/a/b"'),
        (pathlib.PureWindowsPath("c:/a"), '"c:\\\\a"'),
        (pathlib.Path("a"), '"a"'),
        ({10: "a", 9: "b"}, '{"9": "b", "10": "a"}'),
        ({1.5: 1, True: 2}, '{"true": 2, "1.5": 1}'),
        ({None: 1}, '{"null": 1}'),
        ({Decimal("1.5"): 1, uuid.UUID(int=1): 2}, None),
        ({dt.date(2026, 1, 2): 1}, '{"2026-01-02": 1}'),
        ({1: "a", "1": "b"}, '[[1, "a"], ["1", "b"]]'),
        ({(1, 2): "a"}, '[[[1, 2], "a"]]'),
        ({frozenset({1}): {2}}, "[[[1], [2]]]"),
        ("\ud83d\udc4d", '"\\ud83d\\udc4d"'),
        (10**5000, None),
        ({-(10**5000): 1}, None),
        ({float("nan"): 1, float("nan"): 2}, '[["NaN", 1], ["NaN", 2]]'),
    ],
    ids=lambda value: "" if isinstance(value, str) or value is None else type(value).__name__,
)
def test_a_type_that_json_lacks_is_stored_as_plain_json_and_comes_back_as_itself(answer, data):
    for nested in (answer, {"a": [answer]}, (answer, answer)):
        assert same(replayed(nested), nested)
    if data is not None:
        assert AnswerCodec().encode(answer).data == data


def test_the_same_mark_of_all_items_is_written_once():
    prices = [{"price": Decimal(n)} for n in range(100)]

    assert AnswerCodec().encode(prices).types == '{"v":1,"t":["list",[["dict",["Decimal"]]]]}'


def test_places_are_told_by_name_and_by_index():
    stored = AnswerCodec().encode({"a": 1, "b": [1, (2,), 3]})

    assert stored.types == '{"v":1,"t":["dict",{"b":["list",{"1":"tuple"}]}]}'


def test_a_time_zone_comes_back_with_its_name_and_the_second_of_two_equal_hours():
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    second = dt.datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=1)

    back = replayed(second)

    assert back.tzinfo is berlin
    assert (back.fold, back.utcoffset()) == (1, dt.timedelta(hours=1))
    assert AnswerCodec().encode(second).data == '"2026-10-25T02:30:00+01:00"'


def test_a_time_zone_that_is_not_known_here_keeps_the_instant():
    stored = AnswerCodec().encode(dt.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")))

    back = AnswerCodec().decode(stored.data, stored.types.replace("Europe/Berlin", "Mars/Olympus"))

    assert back == dt.datetime(2026, 1, 1, 23, tzinfo=dt.UTC)


def test_a_time_of_day_in_a_time_zone_that_is_not_known_here_is_refused():
    stored = AnswerCodec().encode(dt.time(1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")))

    with pytest.raises(IdempotencyPersistenceConsistencyError):
        AnswerCodec().decode(stored.data, stored.types.replace("Europe/Berlin", "Mars/Olympus"))


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later ones understand them all")
def test_a_path_that_python_does_not_understand_in_its_own_spelling_is_refused():
    with pytest.raises(UnstorableAnswerError, match="does not come back from its own text"):
        AnswerCodec().encode(pathlib.PureWindowsPath("\\\\server\\"))


def test_a_time_zone_whose_rules_changed_keeps_the_instant():
    stored = AnswerCodec().encode(dt.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")))

    back = AnswerCodec().decode(stored.data, stored.types.replace("Europe/Berlin", "Europe/London"))

    assert back == dt.datetime(2026, 1, 1, 23, tzinfo=dt.UTC)
    assert back.tzinfo is zoneinfo.ZoneInfo("Europe/London")


def test_a_strange_time_zone_becomes_a_fixed_offset_and_is_named():
    class Elsewhere(dt.tzinfo):
        def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
            return dt.timedelta(hours=3)

        dst = tzname = None  # type: ignore[assignment]

    answer = dt.datetime(2026, 1, 2, tzinfo=Elsewhere())
    stored = AnswerCodec().encode(answer)

    assert AnswerCodec().decode(stored.data, stored.types) == answer
    assert stored.plain == (f"{__name__}.{Elsewhere.__qualname__}",)


def test_equal_sets_are_stored_equally():
    answer = {"b", 2, (3, "c"), Decimal(1), "a"}

    texts = {AnswerCodec().encode(set(order)).data for order in (sorted(answer, key=repr), sorted(answer, key=str))}

    assert texts == {'["1", "a", "b", 2, [3, "c"]]'}


@pytest.mark.parametrize("base", [str, int, float, list, dict, tuple, set, frozenset, bytes, Decimal, dt.date])
def test_an_instance_of_a_subclass_comes_back_as_the_base_class_and_is_named(base):
    subclass = type("Special", (base,), {"__module__": "shop"})
    arguments = (2026, 1, 2) if base is dt.date else ()

    stored = AnswerCodec().encode([subclass(*arguments)])

    assert same(AnswerCodec().decode(stored.data, stored.types), [base(*arguments)])
    assert stored.plain == ("shop.Special",)


def test_an_ordered_dict_comes_back_as_a_dict_and_is_named():
    stored = AnswerCodec().encode({"a": collections.OrderedDict(b=(1,))})

    assert AnswerCodec().decode(stored.data, stored.types) == {"a": {"b": (1,)}}
    assert stored.plain == ("collections.OrderedDict",)


# Classes: restored where the function's own annotation names them


@pytest.mark.parametrize(
    ("answer", "data"),
    [
        (Colour.RED, '"red"'),
        (Colour.SAME, '"red"'),
        (Colour.MIXED, "[1, 2]"),
        (Level.HIGH, "2"),
        (Shape.ROUND, '"round"'),
        (Right.READ, "1"),
        (Right.READ | Right.WRITE, "3"),
        (Oddity.WHATEVER, '"WHATEVER"'),
        (Point(1, 2), "[1, 2]"),
        (Money(Decimal(1)), '{"amount": "1", "currency": "EUR"}'),
        (
            Order(1, [Line("a", Money(Decimal(1)), {"x"})], Colour.MIXED, Order(2, [])),
            ORDER_DATA,
        ),
        (WithFee(1, 2), '{"amount": 3, "total": 3}'),
        (Derived(1, "a"), '{"name": "a", "number": 1}'),
        (Page([Money(Decimal(2))]), '{"items": [{"amount": "2", "currency": "EUR"}]}'),
        ({Money(Decimal(3)): {Level.LOW: Shape.ROUND}}, None),
        ({Level.HIGH: 1, Level.LOW: 2}, '{"1": 2, "2": 1}'),
        ({Money(Decimal(3)), Point(1)}, None),
    ],
    ids=lambda value: repr(sorted(value, key=repr) if isinstance(value, set) else value),
)
def test_an_instance_of_a_class_that_the_annotation_names_comes_back(answer, data):
    codec = codec_for(Colour | Level | Shape | Right | Oddity | Point | Order | WithFee | Derived | Page[Money])

    for nested in (answer, {"a": [answer]}):
        stored = codec.encode(nested)
        assert same(codec.decode(stored.data, stored.types), nested)
        assert stored.plain == ()
    if data is not None:
        assert codec.encode(answer).data == data


def test_a_member_of_an_enum_without_a_name_of_its_own_is_refused():
    class Loose(enum.Enum):
        ONE = 1.5

        @classmethod
        def _missing_(cls, value: object) -> Any:
            made = object.__new__(cls)
            made._name_, made._value_ = "MADE", value
            return made

    with pytest.raises(UnstorableAnswerError, match="is a member without a name of its own"):
        codec_for(Loose).encode(Loose(2.5))


class Size(int, enum.Enum):
    """A number with a value of its own, as one with labels has it."""

    def __new__(cls, number: int, label: str) -> Self:
        made = int.__new__(cls, number)
        made._value_ = label
        return made

    SMALL = (1, "small")


def test_a_member_that_is_a_number_is_stored_as_that_number_whatever_its_value():
    for codec, back in ((codec_for(Size), Size.SMALL), (AnswerCodec(), 1)):
        stored = codec.encode([Size.SMALL])

        assert stored.data == json.dumps([Size.SMALL])
        assert same(codec.decode(stored.data, stored.types), [back])
    assert codec_for(Size).decode('["small"]', '{"v":1,"t":["list",[["enum","Size"]]]}') == [Size.SMALL]


def test_a_value_that_json_would_join_is_found_by_its_name():
    split = enum.Enum("split", [("A", "\ud83d\udc4d"), ("B", "\U0001f44d")])

    assert replayed([*split], codec_for(split)) == [*split]


def test_what_a_named_tuples_subclass_holds_beside_its_fields_comes_back():
    class Marked(Point):
        pass

    answer = Marked(1, 2)
    answer.note = ("a",)

    assert same(replayed(answer, codec_for(Marked)), answer)


def test_a_cached_property_is_left_out_and_worked_out_again():
    answer = Derived(1, "a")
    assert answer.shout == "A"

    back = replayed(answer, codec_for(Derived))

    assert back == answer
    assert back.shout == "A"


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


@pytest.mark.parametrize(
    ("answer", "data", "back", "plain"),
    [
        (Colour.RED, '"red"', "red", "Colour"),
        (Colour.MIXED, "[1, 2]", (1, 2), "Colour"),
        (Level.HIGH, "2", 2, "Level"),
        (Shape.ROUND, '"round"', "round", "Shape"),
        (Point(1, 2), "[1, 2]", (1, 2), "Point"),
        (
            Money(Decimal(1)),
            '{"amount": "1", "currency": "EUR"}',
            {"amount": Decimal(1), "currency": "EUR"},
            "Money",
        ),
        (
            InvoiceLine(What="a", price=1),
            '{"price": "1", "what": "a!"}',
            {"price": "1", "what": "a!"},
            "InvoiceLine",
        ),
        (
            {Money(Decimal(1))},
            '[{"amount": "1", "currency": "EUR"}]',
            [{"amount": Decimal(1), "currency": "EUR"}],
            "Money",
        ),
    ],
    ids=lambda value: getattr(type(value), "__name__", ""),
)
def test_an_instance_of_a_class_that_nothing_names_comes_back_plain_and_is_named(answer, data, back, plain):
    for return_type in (None, Any, dict, object, Line):
        codec = codec_for(return_type if plain != "Money" else None)
        stored = codec.encode(answer)
        assert (stored.data, stored.plain) == (data, (f"{__name__}.{plain}",))
        assert same(codec.decode(stored.data, stored.types), back)


@pytest.mark.parametrize(
    ("answer", "back"),
    [
        (Colour.RED, "red"),
        (Colour.MIXED, [1, 2]),
        (Point(1, 2), (1, 2)),
        (Money(Decimal(1)), {"amount": Decimal(1), "currency": "EUR"}),
        (InvoiceLine(What="a", price=1), {"price": "1", "what": "a!"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_record_never_names_a_class_that_the_annotation_does_not(answer, back):
    stored = codec_for(type(answer)).encode(answer)

    assert same(AnswerCodec().decode(stored.data, stored.types), back)
    assert same(codec_for(Order | Names).decode(stored.data, stored.types), back) or isinstance(answer, (Colour, Money))


def test_a_mark_does_not_make_one_kind_of_class_out_of_another():
    types = codec_for(Money).encode(Money(Decimal(1))).types.replace("Money", "Point")

    assert codec_for(Point).decode('{"amount": "1", "currency": "EUR"}', types) == {
        "amount": Decimal(1),
        "currency": "EUR",
    }


def test_classes_of_one_name_are_told_apart_by_their_modules():
    one = dataclasses.make_dataclass("Twin", ["a"], namespace={"__module__": "shop.one"})
    two = dataclasses.make_dataclass("Twin", ["a"], namespace={"__module__": "shop.two"})
    one.__module__, two.__module__ = "shop.one", "shop.two"
    codec = codec_for(one | two)

    stored = codec.encode([one(1), two(1)])

    assert '"shop.one:Twin"' in stored.types
    assert [type(twin) for twin in codec.decode(stored.data, stored.types)] == [one, two]


def test_classes_that_nothing_tells_apart_come_back_plain():
    one, two = (dataclasses.make_dataclass("Twin", ["a"]) for _ in range(2))

    assert replayed([one(1), two(2)], codec_for(one | two)) == [{"a": 1}, {"a": 2}]


# Which classes an annotation names


def direct() -> Money:
    raise NotImplementedError


def optional(unheard: Unheard) -> Money | None:
    raise NotImplementedError


def in_a_list() -> list[dict[str, tuple[Money, ...]]]:
    raise NotImplementedError


def in_a_typed_dict() -> Row:
    raise NotImplementedError


def by_new_type() -> Cents:
    raise NotImplementedError


def annotated() -> Annotated[Money | int, "doc"]:
    raise NotImplementedError


def through_fields() -> Order:
    raise NotImplementedError


def quoted() -> list["Money"]:  # noqa: UP037  # a quoted name inside is meant
    raise NotImplementedError


async def awaited() -> Money:
    raise NotImplementedError


class Shop:
    def method(self) -> Money:
        raise NotImplementedError

    @classmethod
    def of_class(cls) -> Money:
        raise NotImplementedError

    @staticmethod
    def static() -> Money:
        raise NotImplementedError

    def __call__(self) -> Money:
        raise NotImplementedError


@functools.wraps(direct)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError


@pytest.mark.parametrize(
    "function",
    [
        direct,
        optional,
        in_a_list,
        in_a_typed_dict,
        by_new_type,
        annotated,
        through_fields,
        quoted,
        awaited,
        Shop().method,
        Shop.method,
        Shop.of_class,
        Shop.static,
        Shop(),
        wrapped,
        functools.partial(direct),
        Money,
    ],
    ids=lambda function: getattr(function, "__qualname__", type(function).__name__),
)
def test_a_return_annotation_names_a_class_in_any_form(function):
    assert same(replayed(Money(Decimal(1)), AnswerCodec(function)), Money(Decimal(1)))


def test_a_callables_annotation_and_an_alias_do_no_harm():
    def function() -> collections.abc.Callable[[Money], Line] | Cents:
        raise NotImplementedError

    assert replayed(Line("a", Money(Decimal(1))), AnswerCodec(function)) == Line("a", Money(Decimal(1)))


def test_a_name_that_the_function_closes_over_and_that_is_not_there_yet_counts_as_none():
    def function() -> Coming:
        return Coming()

    assert replayed(Money(Decimal(1)), AnswerCodec(function)) == {"amount": Decimal(1), "currency": "EUR"}

    class Coming:
        pass


def test_a_literal_names_the_class_of_its_members():
    def function() -> Literal[Colour.RED]:
        raise NotImplementedError

    assert replayed(Colour.RED, AnswerCodec(function)) is Colour.RED


def test_classes_defined_inside_a_function_are_found_where_the_function_uses_them():
    @dataclasses.dataclass
    class Leaf:
        price: Decimal

    @dataclasses.dataclass
    class Tree:
        leaf: Leaf
        children: list[Tree]

    def function() -> Tree:
        return Tree(Leaf(Decimal(1)), [Tree(Leaf(Decimal(2)), [])])

    assert same(replayed(function(), AnswerCodec(function)), function())


def test_an_annotation_that_cannot_be_resolved_counts_as_none():
    def function() -> Unheard:
        raise NotImplementedError

    stored = AnswerCodec(function).encode(Money(Decimal(1)))

    assert stored.plain == (f"{__name__}.Money",)


def test_a_field_whose_annotation_cannot_be_resolved_hides_only_itself():
    @dataclasses.dataclass
    class Half:
        unheard: Unheard
        money: Money

    codec = codec_for(Half)
    stored = codec.encode(Half(Colour.RED, Money(Decimal(1))))

    assert stored.plain == (f"{__name__}.Colour",)
    assert codec.decode(stored.data, stored.types) == Half("red", Money(Decimal(1)))


def test_a_field_named_like_its_type_is_resolved():
    @dataclasses.dataclass
    class Paint:
        Colour: Colour = None  # type: ignore[assignment]

    assert replayed(Paint(Colour.RED), codec_for(Paint)).Colour is Colour.RED


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement came with Python 3.12")
def test_a_type_alias_is_looked_through_even_where_it_names_itself():
    space = {"Money": Money, "__name__": __name__}
    exec("type Tree = Money | list[Tree]", space)  # noqa: S102  # a syntax error in Python 3.11

    assert same(replayed([[Money(Decimal(1))]], codec_for(space["Tree"])), [[Money(Decimal(1))]])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement came with Python 3.12")
def test_a_type_alias_that_cannot_be_resolved_counts_as_none():
    space: dict[str, Any] = {"__name__": __name__}
    exec("type Broken = Unheard", space)  # noqa: S102  # a syntax error in Python 3.11

    assert replayed([Level.LOW], codec_for(space["Broken"])) == [1]


# Classes that changed since the record was written


def test_a_field_added_with_a_default_takes_it_and_a_removed_one_is_passed_over():
    was = dataclasses.make_dataclass("Thing", [("a", int), ("gone", int)])
    now = dataclasses.make_dataclass(
        "Thing", [("a", int), ("b", int, 5), ("c", list, dataclasses.field(default_factory=list))]
    )
    stored = codec_for(was).encode(was(1, 2))

    assert codec_for(now).decode(stored.data, stored.types) == now(1, 5, [])


def test_a_model_field_added_with_a_default_takes_it_and_a_removed_one_is_passed_over():
    was = pydantic.create_model("Thing", a=(int, ...), gone=(int, ...))
    now = pydantic.create_model("Thing", a=(int, ...), b=(list, pydantic.Field(default_factory=list)))
    stored = codec_for(was).encode(was(a=1, gone=2))

    assert codec_for(now).decode(stored.data, stored.types) == now(a=1)


def test_a_named_tuple_takes_the_defaults_of_fields_added_at_its_end():
    was = collections.namedtuple("Thing", ["a"])  # noqa: PYI024  # like the next one
    now = collections.namedtuple("Thing", ["a", "b"], defaults=[5])  # noqa: PYI024  # with a default
    stored = codec_for(was).encode(was(1))

    assert replayed(now(1), codec_for(now)) == codec_for(now).decode(stored.data, stored.types) == now(1, 5)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (dataclasses.make_dataclass("Thing", ["a"]), dataclasses.make_dataclass("Thing", ["a", "b"])),
        (
            pydantic.create_model("Thing", a=(int, ...)),
            pydantic.create_model("Thing", a=(int, ...), b=(int, ...)),
        ),
        (NamedTuple("Thing", [("a", int)]), NamedTuple("Thing", [("a", int), ("b", int)])),
        (enum.Enum("Thing", [("A", 1), ("B", 2)]), enum.Enum("Thing", [("B", 2)])),
    ],
    ids=["dataclass", "model", "NamedTuple", "Enum"],
)
def test_an_answer_that_the_class_can_no_longer_hold_is_refused(was, now):
    stored = codec_for(was).encode(was(a=1) if not issubclass(was, enum.Enum) else was(1))

    with pytest.raises(IdempotencyPersistenceConsistencyError):
        codec_for(now).decode(stored.data, stored.types)


# What cannot be stored


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


def test_without_the_prepared_encoder_the_public_one_writes_the_same(monkeypatch):
    answer = {"b": [1.5, None, "é"], "a": {"c": True}}
    for replacement in (None, lambda *_: lambda *_: ["other"]):
        monkeypatch.setattr(json.encoder, "c_make_encoder", replacement)

        assert "".join(answers._prepared_encoder()(answer, 0)) == json.dumps(answer, sort_keys=True)


def test_plain_json_may_be_deeper():
    answer: Any = 1
    for _ in range(500):
        answer = [answer]

    assert replayed(answer) == answer


def types_nested(levels: int) -> str:
    return '{"v":1,"t":' + '["via",null,' * levels + "null" + "]" * levels + "}"


@pytest.mark.parametrize(
    ("data", "types"),
    [("[" * 200_000 + "]" * 200_000, ""), ("1", types_nested(200_000)), ("1", types_nested(600))],
    ids=["data", "types", "reading by types"],
)
def test_what_is_too_deep_to_be_read_is_told_apart_from_what_is_no_json(data, types):
    with pytest.raises(IdempotencyPersistenceConsistencyError, match="nested too deeply to be read here"):
        AnswerCodec().decode(data, types)


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


# What cannot be read


@pytest.mark.parametrize(
    ("data", "types"),
    [
        ("{", ""),
        ("nonsense", ""),
        ("1 2", ""),
        ("[" * 100_000, ""),
        ("1", "nonsense"),
        ("1", "[]"),
        ("1", "{}"),
        ("1", '{"v":1}'),
        ("1", '{"v":2,"t":null}'),
        ("1", '{"v":"1","t":null}'),
        ("1", '{"v":1,"t":"Decimal"}'),
        ('"x"', '{"v":1,"t":"Decimal"}'),
        ('"x"', '{"v":1,"t":"unheard"}'),
        ('"x"', '{"v":1,"t":["unheard",1]}'),
        ('"x"', '{"v":1,"t":[]}'),
        ('"x"', '{"v":1,"t":{}}'),
        ('"x"', '{"v":1,"t":7}'),
        ('"x"', '{"v":1,"t":"list"}'),
        ("[1]", '{"v":1,"t":["list",{"1":"tuple"}]}'),
        ("[1]", '{"v":1,"t":["list",["tuple","tuple"]]}'),
        ('{"a": 1}', '{"v":1,"t":["dict",{"b":"float"}]}'),
        ('{"a": 1}', '{"v":1,"t":["dict",null,["int"]]}'),
        ("[1]", '{"v":1,"t":"pairs"}'),
        ('"2026-13-01"', '{"v":1,"t":"date"}'),
        ('"P1Y"', '{"v":1,"t":"timedelta"}'),
        ('"*"', '{"v":1,"t":"bytes"}'),
        ('"maybe"', '{"v":1,"t":"bool"}'),
        ('"green"', '{"v":1,"t":["enum","Colour"]}'),
        ("[1, 2, 3]", '{"v":1,"t":["namedtuple","Point"]}'),
        ('{"a": 1}', '{"v":1,"t":["dataclass","Money"]}'),
        ("[]", '{"v":1,"t":["model","InvoiceLine"]}'),
    ],
)
def test_what_cannot_be_read_is_refused(data, types):
    with pytest.raises(IdempotencyPersistenceConsistencyError):
        codec_for(Colour | Point | Money | InvoiceLine).decode(data, types)


def test_what_is_no_number_is_refused_also_where_the_callers_decimals_would_be_nan():
    with decimal.localcontext(traps=[]), pytest.raises(IdempotencyPersistenceConsistencyError):
        AnswerCodec().decode('"x"', '{"v":1,"t":"Decimal"}')


def test_a_later_version_is_named():
    with pytest.raises(IdempotencyPersistenceConsistencyError, match="of version 7, and only 1 is known here"):
        AnswerCodec().decode("1", '{"v":7,"t":null}')
