"""Answers of plain JSON, and of Python's own types: how each is stored, and that it comes back as itself."""

from __future__ import annotations

import collections
import datetime as dt
import json
import pathlib
import subprocess
import sys
import uuid
import zoneinfo
from decimal import Decimal

import pytest

from retrysafe.answers import AnswerCodec, StoredAnswer, UnstorableAnswerError
from retrysafe.exceptions import IdempotencyPersistenceConsistencyError
from retrysafe.json_encoder import prepared_encoder
from support.answers import replayed
from support.exactness import same

GOLDEN = json.loads(
    (pathlib.Path(__file__).parents[1] / "golden" / "powertools-python-3.37.0.json").read_text(encoding="utf-8")
)


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


def test_without_the_prepared_encoder_the_public_one_writes_the_same(monkeypatch):
    answer = {"b": [1.5, None, "é"], "a": {"c": True}}
    for replacement in (None, lambda *_: lambda *_: ["other"]):
        monkeypatch.setattr(json.encoder, "c_make_encoder", replacement)

        assert "".join(prepared_encoder(allow_nan=False)(answer, 0)) == json.dumps(answer, sort_keys=True)


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


def test_what_is_made_json_of_names_only_classes_that_json_has_no_form_for():
    codec = AnswerCodec(into_json=True)
    ordered = collections.OrderedDict(b=(1,), a=2)

    assert codec.encode(ordered) == StoredAnswer('{"a": 2, "b": [1]}', AnswerCodec().encode(ordered).types)
    assert codec.encode([ordered, Decimal(1)]).plain == ("collections.OrderedDict",)
    assert codec.encode({1: ordered}).plain == ()
