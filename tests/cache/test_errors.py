"""A cache that cannot be reached, or not trusted: one clear error in time, before anything ran."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from retrysafe.exceptions import IdempotencyPersistenceConnectionError
from servers import RedisServer, programs
from servers.processes import free_port
from support.cache_callers import SECRET, WAYS, Caller


@pytest.fixture(params=WAYS)
def call(request):
    return Caller(request.param)


# --- reaching the server ------------------------------------------------------------------------------------------


def test_nobody_listens(call):
    port = free_port()
    call.refused(f"redis://:{SECRET}@127.0.0.1:{port}", IdempotencyPersistenceConnectionError, f"127.0.0.1:{port} ")


def test_the_host_is_unknown(call):
    call.refused(
        "redis://nobody.invalid", IdempotencyPersistenceConnectionError, "nobody.invalid:6379 cannot be reached"
    )


def test_nobody_answers_to_a_connection(call):
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # those that nobody accepts fill the queue, behind which others are not answered
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        call.refused(url, IdempotencyPersistenceConnectionError, "cannot be reached or did not answer")


def test_the_server_hangs(call, start):
    server = start(RedisServer(programs.redis_70()))
    server.stop_process()
    call.refused(server.url, IdempotencyPersistenceConnectionError, "did not answer - .*Timeout")


def test_something_else_listens(call):
    def serve(listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        call.refused(url, IdempotencyPersistenceConnectionError, "did not answer")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


# --- TLS ----------------------------------------------------------------------------------------------------------


def test_a_server_without_tls(call, redis_70):
    url = redis_70.url.replace("redis://", "rediss://")
    call.refused(url, IdempotencyPersistenceConnectionError, rf"127.0.0.1:{redis_70.port} \(TLS\) cannot be reached")


def test_a_server_with_tls_alone(call, redis_70_tls):
    url = redis_70_tls.url.replace("rediss://", "redis://")
    call.refused(url, IdempotencyPersistenceConnectionError, "cannot be reached")


def test_a_certificate_of_an_unknown_authority(call, redis_70_tls):
    call.refused(redis_70_tls.url, IdempotencyPersistenceConnectionError, "certificate verify failed")


def test_a_certificate_for_another_name(call, redis_70_tls, certificates, monkeypatch):
    resolve = socket.getaddrinfo
    here = redis_70_tls.host
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: resolve(here if host == "cache.example" else host, *a, **k)
    )
    url = redis_70_tls.url.replace("127.0.0.1", "cache.example") + f"?ssl_ca_certs={certificates.authority}"
    call.refused(url, IdempotencyPersistenceConnectionError, "cache.example")
    assert call(f"{url}&ssl_check_hostname=false") == "done"


def test_tls_with_the_right_certificate(call, redis_70_tls, certificates):
    redis_70_tls.command("FLUSHALL")
    url = f"{redis_70_tls.url}?ssl_ca_certs={certificates.authority}"
    assert [call(url), call(url)] == ["done", "done"]
    assert call.ran == [1]
