"""A call that is interrupted while its client waits for a reply, as a signal handler may: the reply is nobody else's.

The client is torn out at each line of its library in turn, from when it begins to send. Whatever it leaves behind, the
next call has its own answer.
"""

from __future__ import annotations

import linecache
import sys
from functools import partial

import pytest
import redis
import valkey

from retrysafe import layer_from_url
from retrysafe.exceptions import IdempotencyBaseError, IdempotencyPersistenceLayerError
from retrysafe.persistence._cache.interruptions import close_if_interrupted
from retrysafe.persistence.cache import CachePersistenceLayer
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord
from support.any_client import parts
from support.cache_clients import CLIENTS

LATER = 4_000_000_000
A, B, C, D = KEYS = [f"{{interrupted}} {letter}" for letter in "abcd"]
"""On one node of a cluster, so that they share its connections."""


class Interrupted(BaseException):
    """As KeyboardInterrupt is."""


class OutOfTimeError(Exception):
    """As what a task queue's soft limit raises."""


def torn_at(line, call, error):
    """Whether the call was over before the library had run so many lines from sending on; it is torn out there."""
    lines, sending = 0, False

    def trace(frame, event, _):
        nonlocal lines, sending
        name = frame.f_globals.get("__name__", "").partition(".")[0]
        if name not in ("redis", "valkey") or is_finalizer(frame):
            return None
        sending = sending or frame.f_code.co_name == "send_packed_command"
        if event == "line" and sending and not is_unguarded(frame):
            lines += 1
            if lines == line:
                sys.settrace(None)
                raise error
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except (Interrupted, IdempotencyBaseError):
        return False
    finally:
        sys.settrace(before)
    return lines < line


def is_unguarded(frame):
    """Whether a lock may be held that would stay so if it were torn out here. No signal handler runs there."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip()
    return line.startswith(("with ", "try:"))


def is_finalizer(frame):
    """Whether Python would swallow what is raised here."""
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


def record(key, status, answer=""):
    lease = LATER * 1000 if status == INPROGRESS else None
    return DataRecord(key, status, LATER, lease, answer, owner="owner")


def survives_each_line(layer, call, error, last=10_000):
    """Each key has its own answer, wherever the call before was torn out."""
    layer._for_each("get", [A, B])  # connected, and the script is known
    line = 1
    while line <= last and not torn_at(line, call, error):
        for key in (B, C):
            assert layer._get_record(key).response_data == f'"{key}"', line
        line += 1
    assert line > 10


@pytest.fixture(params=["redis", "redis, RESP3, text", "redis, cluster", "redis, Sentinel", "valkey"])
def given(request):
    client = CLIENTS[request.param](request, False)
    try:
        yield filled(CachePersistenceLayer(client=client))
    finally:
        for each in parts(client):
            each.close()


@pytest.fixture(params=["redis", "valkey"])
def opened(request, redis_sentinel):
    hosts = ",".join(f"{host}:{port}" for host, port in redis_sentinel.addresses)
    with layer_from_url(f"{request.param}+sentinel://{hosts}/{redis_sentinel.name}") as layer:
        yield filled(layer)


def filled(layer):
    for key in KEYS:
        claim = record(key, INPROGRESS)
        if layer._for_each("put", [claim]) == [None]:
            layer._update_record(record(key, COMPLETED, f'"{key}"'))
    return layer


def test_no_call_gets_the_reply_of_one_that_was_interrupted(given):
    survives_each_line(given, lambda: given._get_record(A), Interrupted)


def test_nor_that_of_many_records(given):
    survives_each_line(given, lambda: given._for_each("get", [A, D]), Interrupted)


def test_nor_that_of_a_check(opened):
    survives_each_line(opened, opened.check, Interrupted, last=40)


def test_nor_where_the_interruption_is_an_ordinary_exception(opened):
    survives_each_line(opened, lambda: opened._get_record(A), OutOfTimeError)


def test_nor_on_connections_that_the_layer_opened(opened):
    survives_each_line(opened, lambda: opened._get_record(A), Interrupted)


@pytest.mark.parametrize("library", [redis, valkey])
def test_a_connection_that_another_thread_takes_meanwhile_is_not_closed(library, redis_70):
    class Watched(library.Connection):
        def disconnect(self, *args, **kwargs):
            super().disconnect(*args, **kwargs)
            if is_closing and not taken:
                taken.append(get())
                taken[0].send_command("ECHO", "mine")

    taken, is_closing = [], False
    pool = library.BlockingConnectionPool(
        connection_class=Watched, host=redis_70.host, port=redis_70.port, max_connections=3, timeout=1
    )
    get = pool.get_connection if library is redis else partial(pool.get_connection, "ECHO")
    for each in [get() for _ in range(3)]:
        pool.release(each)
    client = (library.Redis if library is redis else library.Valkey)(connection_pool=pool)
    is_closing = True
    close_if_interrupted(client, Interrupted())
    assert taken[0].read_response() == b"mine"
    pool.release(taken[0])
    again = [get() for _ in range(3)]
    assert len(set(map(id, again))) == 3
    for each in again:
        each.disconnect()


def test_what_only_looks_like_a_client_has_its_own_error_told():
    class Client:
        connection = "primary"

        def execute_command(self, *words):
            raise OutOfTimeError

        evalsha = execute_command

    with pytest.raises(IdempotencyPersistenceLayerError) as told:
        CachePersistenceLayer(client=Client())._get_record(A)
    assert isinstance(told.value.__cause__, OutOfTimeError)
