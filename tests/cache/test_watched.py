"""The part of watching that does no I/O: what a message means, who is woken, when to ask and when to try again."""

from __future__ import annotations

import gc

import pytest

from retrysafe.persistence._cache.watched import (
    FIRST_AFTER_RELEASE,
    FIRST_PAUSE,
    LAST_AFTER_RELEASE,
    LONGEST_PAUSE,
    STEP,
    SUBSCRIBED,
    Outage,
    Rounds,
    Silence,
    Watched,
    channel_of,
    news_of,
)


class Watch:
    def __init__(self, key="order"):
        self.key = key
        self.wakes = []

    def wake(self, delay):
        self.wakes.append(delay)


@pytest.fixture
def watched():
    return Watched()


def told(watched, key="order"):
    """The server confirms that it tells of the key."""
    watched.to_ask()
    watched.hear(key, SUBSCRIBED)


@pytest.mark.parametrize(
    ("message", "news"),
    [
        ({"type": "message", "channel": b"retrysafe:shop#1", "data": b"COMPLETED"}, ("shop#1", "COMPLETED")),
        ({"type": "message", "channel": "retrysafe:shop#1", "data": "RELEASED"}, ("shop#1", "RELEASED")),
        ({"type": "subscribe", "channel": b"retrysafe:shop#1", "data": 1}, ("shop#1", SUBSCRIBED)),
        ({"type": "message", "channel": "retrysafe:é".encode(), "data": b"FAILED"}, ("é", "FAILED")),
        ({"type": "unsubscribe", "channel": b"retrysafe:shop#1", "data": 0}, None),
        ({"type": "pong", "channel": None, "data": b""}, None),
        ({"type": "message", "channel": b"another", "data": b"COMPLETED"}, None),
        ({"type": "message", "channel": b"\xff", "data": b"COMPLETED"}, None),
    ],
)
def test_a_message_tells_of_a_key(message, news):
    assert news_of(message) == news


def test_a_channel_is_named_after_its_key():
    assert channel_of("shop#1") == "retrysafe:shop#1"


def test_each_key_is_asked_for_once_however_many_watch_it(watched):
    watches = [Watch(), Watch(), Watch("other")]
    for watch in watches:
        watched.add(watch)
    new, old = watched.to_ask()
    assert (sorted(new), old) == (["order", "other"], [])
    assert watched.to_ask() == ([], [])


def test_a_key_that_nobody_watches_any_more_is_unsubscribed(watched):
    first, second = Watch(), Watch()
    watched.add(first)
    watched.add(second)
    told(watched)
    watched.remove(first)
    assert watched.to_ask() == ([], [])
    watched.remove(second)
    assert watched.to_ask() == ([], ["order"])
    assert not watched
    assert not watched.tells("order")


def test_a_watch_that_was_dropped_without_being_closed_counts_as_closed(watched):
    watch = Watch()
    watched.add(watch)
    watched.to_ask()
    del watch
    gc.collect()
    assert not watched
    assert watched.to_ask() == ([], ["order"])


def test_a_key_is_told_from_the_confirmation_until_the_connection_is_lost_and_each_wakes(watched):
    watch = Watch()
    watched.add(watch)
    assert not watched.tells("order")
    told(watched)
    assert watched.tells("order")
    assert len(watch.wakes) == 1
    watched.lose()
    assert not watched.tells("order")
    assert len(watch.wakes) == 2
    assert watched.to_ask() == (["order"], [])


def test_a_watch_on_a_key_that_is_told_already_begins_woken(watched):
    first, second = Watch(), Watch()
    watched.add(first)
    told(watched)
    watched.add(second)
    assert second.wakes == [0.0]


def test_a_confirmation_for_what_is_not_asked_for_any_more_is_no_promise(watched):
    watch = Watch()
    watched.add(watch)
    watched.to_ask()
    watched.remove(watch)
    watched.to_ask()
    watched.hear("order", SUBSCRIBED)
    assert not watched.tells("order")


@pytest.mark.parametrize("news", ["COMPLETED", "FAILED", "UNAVAILABLE"])
def test_an_outcome_wakes_all_who_watch_its_key_at_once(watched, news):
    watches = [Watch() for _ in range(10)]
    other = Watch("other")
    for watch in (*watches, other):
        watched.add(watch)
    watched.hear("order", news)
    assert [watch.wakes for watch in watches] == [[0.0]] * 10
    assert other.wakes == []


def test_a_release_wakes_one_at_once_and_the_others_when_it_has_claimed(watched):
    watches = [Watch() for _ in range(100)]
    for watch in watches:
        watched.add(watch)
    watched.hear("order", "RELEASED")
    delays = sorted(watch.wakes[0] for watch in watches)
    assert delays[0] == 0.0
    assert FIRST_AFTER_RELEASE <= delays[1] < delays[-1] <= LAST_AFTER_RELEASE


def test_those_of_one_process_look_at_the_same_moments():
    rounds = Rounds()
    looks = {round(now + rounds.until(now, at_most), 6) for now in (100.0, 100.3, 101.1) for at_most in (3.0, 4.9)}
    assert len(looks) <= 3
    step = STEP
    assert all(abs((look - min(looks)) / step - round((look - min(looks)) / step)) < 1e-6 for look in looks)


@pytest.mark.parametrize("at_most", [0.1, 1.0, 2.5, 3.0, 5.0])
def test_nobody_waits_longer_than_asked_for_the_others(at_most):
    rounds = Rounds()
    assert all(0 < rounds.until(now / 10, at_most) <= at_most for now in range(100))


def test_a_connection_that_is_silent_is_asked_once_and_given_up_when_it_stays_so():
    silence = Silence(100.0)
    assert not silence.is_suspicious(104.9, heard=False)
    assert silence.is_suspicious(105.0, heard=False)
    assert not silence.is_suspicious(105.1, heard=False)
    assert not silence.is_suspicious(106.0, heard=True)
    assert silence.is_suspicious(111.0, heard=False)
    with pytest.raises(ConnectionError):
        silence.is_suspicious(116.0, heard=False)


def test_an_outage_is_told_once_and_its_pauses_grow_up_to_a_limit(caplog):
    outage = Outage()
    pauses = [outage.pause_after(ConnectionError("refused")) for _ in range(20)]
    assert pauses[0] <= FIRST_PAUSE
    assert LONGEST_PAUSE / 2 <= pauses[-1] <= LONGEST_PAUSE
    assert len(caplog.records) == 1
    assert "refused" in caplog.text
    outage.is_over()
    assert outage.pause_after(ConnectionError("again")) <= FIRST_PAUSE
    assert len(caplog.records) == 2


def test_what_is_logged_of_an_outage_shows_no_password(caplog):
    Outage().pause_after(ConnectionError("no master: <Connection(host=sentinel,password=s3cret,db=0)>"))
    assert "s3cret" not in caplog.text
    assert "password=...,db=0" in caplog.text
