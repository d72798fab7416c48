"""The two texts that stand for an answer in a store, to the letter: what other versions have written is read here too.

They are those of docs/record-format.md. To change one takes a new version of `types`, and a reader for both.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import pathlib
import uuid
import zoneinfo
from decimal import Decimal

import pydantic
import pytest

from retrysafe.answers import AnswerCodec, StoredAnswer
from retrysafe.failures import decode_failure, encode_failure
from support.answers import Colour, Money, Names, Point, WithFee, codec_for
from support.exactness import same

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
EST = dt.timezone(dt.timedelta(hours=-5), "EST")
ODD = dt.timezone(dt.timedelta(seconds=1, microseconds=5))


class Host(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    address: ipaddress.IPv4Address
    price: Decimal = Decimal(0)
    hidden: tuple[int, ...] = pydantic.Field(default=(), exclude=True)
    _seen: set[int] = pydantic.PrivateAttr(default_factory=set)


class DeclinedError(Exception):
    def __init__(self, code: str, amount: Decimal) -> None:
        super().__init__(f"declined: {code}")
        self.amount = amount


def a_host() -> Host:
    host = Host(address=ipaddress.IPv4Address("10.0.0.1"), hidden=(1,), note=b"x")
    host._seen = {1}
    return host


@pytest.mark.parametrize(
    ("answer", "data", "mark"),
    [
        (float("inf"), '"Infinity"', '"float"'),
        (Decimal("1.10"), '"1.10"', '"Decimal"'),
        (uuid.UUID(int=5), '"00000000-0000-0000-0000-000000000005"', '"UUID"'),
        (b"ab", '"YWI="', '"bytes"'),
        (bytearray(b"ab"), '"YWI="', '"bytearray"'),
        (dt.date(2026, 1, 2), '"2026-01-02"', '"date"'),
        (dt.timedelta(1), '"P1D"', '"timedelta"'),
        (pathlib.PurePosixPath("/a"), '"/a"', '"PurePosixPath"'),
        (pathlib.PureWindowsPath("c:/a"), '"c:\\\\a"', '"PureWindowsPath"'),
        (dt.datetime(2026, 1, 2, 3), '"2026-01-02T03:00:00"', '"datetime"'),  # noqa: DTZ001  # a naive one is meant
        (
            dt.datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
            '"2026-10-25T02:30:00+01:00"',
            '["datetime",{"fold":1,"zone":"Europe/Berlin"}]',
        ),
        (dt.datetime(2026, 1, 2, tzinfo=EST), '"2026-01-02T00:00:00-05:00"', '["datetime",{"name":"EST"}]'),
        (
            dt.datetime(2026, 1, 2, tzinfo=ODD),
            '"2026-01-02T00:00:00+00:00:01.000005"',
            '["datetime",{"offset":"PT1.000005S"}]',
        ),
        (dt.time(1, 2), '"01:02:00"', '"time"'),
        (dt.time(1, 2, tzinfo=BERLIN, fold=1), '"01:02:00"', '["time",{"fold":1,"zone":"Europe/Berlin"}]'),
        ("\ud83d\udc4d", '"\\ud83d\\udc4d"', '["str",["\\ud83d","\\udc4d"]]'),
        ([(1,)], "[[1]]", '["list",["tuple"]]'),
        ((1, (2,)), "[1, [2]]", '["tuple",{"1":"tuple"}]'),
        ({1, 2}, "[1, 2]", '"set"'),
        (frozenset({b"a"}), '["YQ=="]', '["frozenset",["bytes"]]'),
        ({"a": {1}}, '{"a": [1]}', '["dict",["set"]]'),
        ({1: "a", None: "b"}, '{"1": "a", "null": "b"}', '["dict",null,{"1":"int","null":"None"}]'),
        ({1.5: 1, True: 2}, '{"true": 2, "1.5": 1}', '["dict",null,{"true":"bool","1.5":"float"}]'),
        ({(1, 2): "a"}, '[[[1, 2], "a"]]', '["pairs",[["list",{"0":"tuple"}]]]'),
        (
            pathlib.PurePosixPath("\ud83d\udc4d"),
            '"\\ud83d\\udc4d"',
            '["via",["str",["\\ud83d","\\udc4d"]],"PurePosixPath"]',
        ),
        (Colour.RED, '"red"', '["enum","Colour"]'),
        (Colour.MIXED, "[1, 2]", '["member","Colour","MIXED"]'),
        (Point(1, 2), "[1, 2]", '["namedtuple","Point"]'),
        (
            Money(Decimal("1.10")),
            '{"amount": "1.10", "currency": "EUR"}',
            '["dataclass","Money",{"amount":"Decimal"}]',
        ),
        (
            WithFee(1, 2),
            '{"amount": 3, "total": 3}',
            '["dataclass","WithFee",null,[{"beside":["not","a","field"]},["dict",["tuple"]]]]',
        ),
        (
            a_host(),
            '{"address": "10.0.0.1", "note": "x", "price": "0"}',
            (
                '["model","Host",{"address":"field","hidden":["instead",[1],"tuple"],"note":["instead","eA==","bytes"],'
                '"price":"Decimal"},{"set":["address","hidden","note"],"extra":["note"],'
                '"private":[{"_seen":[1]},["dict",["set"]]]}]'
            ),
        ),
        (Names([Decimal(1)]), '["1"]', '["instead",{"root":["1"]},["model","Names",{"root":["list",["Decimal"]]}]]'),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_an_answer_is_stored_and_read_as_the_page_on_the_record_says(answer, data, mark):
    codec = codec_for(Colour | Point | Money | WithFee | Host | Names)
    types = f'{{"v":1,"t":{mark}}}'
    stored = codec.encode(answer)
    assert (stored.data, json.loads(stored.types), stored.plain) == (data, json.loads(types), ())
    assert same(codec.decode(data, types), answer)


def test_so_is_a_number_of_more_digits_than_are_written():
    number = 16**5000
    stored = StoredAnswer('"0x1' + "0" * 5000 + '"', '{"v":1,"t":"int"}')
    assert AnswerCodec().encode(number) == stored
    assert AnswerCodec().decode(stored.data, stored.types) == number


def test_so_is_a_failure():
    data = (
        '{"args": ["declined: limit"], "class": "DeclinedError", "index": 1, "message": "declined: limit", '
        '"state": {"amount": "1.50"}}'
    )
    types = '{"v":1,"t":["dict",{"state":["dict",["Decimal"]]}]}'
    named = (ValueError, DeclinedError)
    assert encode_failure(DeclinedError("limit", Decimal("1.50")), named) == StoredAnswer(data, types)
    back = decode_failure(data, types, named)
    assert (type(back), str(back), back.amount) == (DeclinedError, "declined: limit", Decimal("1.50"))
