"""Calls that wait on a real cache: one run, all answers, and a server that is hardly asked, however many wait."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from retrysafe import IdempotencyConfig, idempotent_function
from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer
from servers import RedisServer, programs, wait_until

WAIT = IdempotencyConfig(on_in_progress="wait", wait_timeout_seconds=60)
FEW = 20


class Asked:
    """How often a server was asked what, from now on."""

    def __init__(self, server):
        self.server = server
        self.before = self.all()

    def all(self):
        lines = self.server.info("commandstats")
        return {name.removeprefix("cmdstat_"): int(value.split(",")[0][6:]) for name, value in lines.items()}

    def __getitem__(self, command):
        return self.all().get(command, 0) - self.before.get(command, 0)

    @property
    def steps(self):
        """Each step of a layer is one script, which may have to be sent in full."""
        return self["evalsha"] + self["eval"]

    def settle(self, at_least):
        """Wait until so many steps were taken, and then none for a while."""
        last, since = -1, time.monotonic()
        while last < at_least or time.monotonic() - since < 0.5:
            steps = self.steps
            if steps != last:
                last, since = steps, time.monotonic()
            time.sleep(0.02)


@pytest.fixture
def server(start):
    return start(RedisServer(programs.valkey_91(), options={"maxclients": "3000"}))


def url(server, connections):
    return f"redis://{server.host}:{server.port}?max_connections={connections}"


class Run:
    """A run that a test ends, and counts."""

    def __init__(self, *, failing=0):
        self.runs = 0
        self.failing = failing
        self.over = threading.Event()
        if failing:
            self.over.set()

    def __call__(self, order):
        self.runs += 1
        number = self.runs
        assert self.over.wait(60)
        if number <= self.failing:
            raise ValueError(number)
        return {"receipt": number}


def in_threads(count, call):
    """Start so many calls, and give what waits for their answers, or errors."""
    answers = []

    def one():
        try:
            answers.append(call({"id": 1}))
        except Exception as error:  # noqa: BLE001  # the test looks at it
            answers.append(error)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()

    def join():
        for thread in threads:
            thread.join()
        return answers

    return join


def test_200_threads_on_one_key_cost_one_run_and_hardly_a_command_while_they_wait(server):
    run = Run()
    with CachePersistenceLayer(url(server, 200)) as layer:
        call = idempotent_function(run, persistence_store=layer, config=WAIT, key_prefix="shop")
        arrived = Asked(server)
        join = in_threads(200, call)
        arrived.settle(200)
        asked = Asked(server)
        run.over.set()
        answers = join()
    assert answers == [{"receipt": 1}] * 200
    assert run.runs == 1
    assert asked.steps < FEW


def test_1000_tasks_on_one_key_cost_one_run_and_hardly_a_command_beyond_their_claims(server):
    load_scripts(server)
    asked = Asked(server)
    runs = []

    async def charge(order):
        runs.append(order)
        await asyncio.to_thread(asked.settle, 1000)
        return {"receipt": len(runs)}

    async def together():
        async with AsyncCachePersistenceLayer(url(server, 1000)) as layer:
            call = idempotent_function(charge, persistence_store=layer, config=WAIT, key_prefix="shop")
            return await asyncio.gather(*(call({"id": 1}) for _ in range(1000)))

    assert asyncio.run(together()) == [{"receipt": 1}] * 1000
    assert len(runs) == 1
    assert asked.steps < 1000 + FEW


def load_scripts(server):
    """So that nobody's claim is sent twice for want of them."""
    with CachePersistenceLayer(url(server, 1)) as layer:
        idempotent_function(lambda order: order, persistence_store=layer, key_prefix="other")(0)


def test_of_many_who_wait_for_a_run_that_fails_one_claims_and_the_others_wait_on(server):
    run = Run(failing=3)
    run.over.clear()
    load_scripts(server)

    async def charge(order):
        run.runs += 1
        number = run.runs
        await asyncio.to_thread(run.over.wait, 60)
        if number <= 3:
            raise ValueError(number)
        return number

    async def together():
        async with AsyncCachePersistenceLayer(url(server, 300)) as layer:
            call = idempotent_function(charge, persistence_store=layer, config=WAIT, key_prefix="shop")
            tasks = [asyncio.create_task(call({"id": 1})) for _ in range(300)]
            await asyncio.to_thread(arrived.settle, 300)
            asked = Asked(server)
            run.over.set()
            return await asyncio.gather(*tasks, return_exceptions=True), asked

    arrived = Asked(server)
    answers, asked = asyncio.run(together())
    assert sorted(str(answer) for answer in answers if isinstance(answer, ValueError)) == ["1", "2", "3"]
    assert [answer for answer in answers if not isinstance(answer, ValueError)] == [4] * 297
    assert asked["set"] == 4  # three claims, one completion
    assert asked.steps < 1000  # each for itself would look after each of the four runs: 1200


def test_who_waits_gets_the_answer_though_the_connection_that_tells_is_killed_and_is_told_again(server):
    run = Run()
    with CachePersistenceLayer(url(server, 20)) as layer:
        call = idempotent_function(run, persistence_store=layer, config=WAIT, key_prefix="shop")
        asked = Asked(server)
        join = in_threads(10, call)
        asked.settle(10)
        assert server.command("CLIENT", "KILL", "TYPE", "pubsub") == 1
        wait_until(lambda: asked["subscribe"] == 2, "another subscription")
        asked.settle(10)
        run.over.set()
        assert join() == [{"receipt": 1}] * 10


def test_who_waits_gets_the_answer_where_nobody_may_subscribe(server):
    server.command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all", "resetchannels")
    run = Run()
    with CachePersistenceLayer(f"redis://worker:secret@{server.host}:{server.port}") as layer:
        call = idempotent_function(run, persistence_store=layer, config=WAIT, key_prefix="shop")
        asked = Asked(server)
        join = in_threads(10, call)
        wait_until(lambda: asked.steps > 50, "looking now and then")
        run.over.set()
        assert join() == [{"receipt": 1}] * 10


def test_calls_that_do_not_wait_cost_no_connection(server):
    with CachePersistenceLayer(url(server, 20)) as layer:
        before = Asked(server)
        call = idempotent_function(lambda order: order, persistence_store=layer, config=WAIT, key_prefix="shop")
        assert [call(1), call(1)] == [1, 1]
        assert before["subscribe"] == 0
        assert "retrysafe-watching" not in [thread.name for thread in threading.enumerate()]
