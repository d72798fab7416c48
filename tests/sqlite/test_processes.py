"""The SQLite layer under rivals: threads and processes, and the sudden death of one."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
from retrysafe.persistence.datarecord import COMPLETED
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_support import SetClock, claim, outcome, start


def test_of_100_threads_one_wins_each_key(path):
    with SQLitePersistenceLayer(path, synchronous="off", busy_timeout_seconds=60, clock=SetClock()) as layer:
        together = threading.Barrier(100)

        def rival(number):
            won = []
            for key in map(str, range(5)):
                together.wait()
                try:
                    layer._put_record(claim(key, owner=str(number)))
                    won.append(key)
                except IdempotencyItemAlreadyExistsError as error:
                    assert error.old_data_record.idempotency_key == key  # noqa: PT017  # of many threads
            return won

        with ThreadPoolExecutor(100) as threads:
            wins = Counter(key for won in threads.map(rival, range(100)) for key in won)
    assert wins == dict.fromkeys(map(str, range(5)), 1)


@pytest.mark.parametrize("case", ["first claim", "window over", "takeover"])
def test_of_4_processes_one_wins_each_key(path, case):
    rivals = [
        start(
            """
            import json, sys
            from support.sqlite_support import *
            from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
            from retrysafe.persistence.sqlite import SQLitePersistenceLayer
            path, case, owner = sys.argv[1:]
            now = START_MS if case == "takeover" else START_MS + 10 * WINDOW_S * 1000
            layer = SQLitePersistenceLayer(
                path, synchronous="off", busy_timeout_seconds=60, clock=SetClock(now)
            )
            print("ready", flush=True)
            input()
            won = []
            for number in range(200):
                replaces = claim(f"key#{number}", "dead") if case == "takeover" else None
                try:
                    layer._put_record(claim(f"key#{number}", owner, now_ms=now, replaces=replaces))
                    won.append(number)
                except IdempotencyItemAlreadyExistsError as error:
                    assert error.old_data_record.owner != owner
            layer.close()
            print(json.dumps(won))
            """,
            path,
            case,
            owner,
        )
        for owner in "abcd"
    ]
    with SQLitePersistenceLayer(path, synchronous="off", clock=SetClock()) as layer:
        for number in range(0 if case == "first claim" else 200):
            layer._put_record(claim(f"key#{number}", "dead"))
    for rival in rivals:
        assert rival.stdout.readline() == "ready\n"
    for rival in rivals:
        rival.stdin.write("go\n")
        rival.stdin.flush()
    wins = Counter(number for rival in rivals for number in json.loads(outcome(rival)))
    assert wins == dict.fromkeys(range(200), 1)


def test_many_processes_may_make_one_file_at_once(tmp_path):
    makers = [
        start(
            """
            import sys
            from support.sqlite_support import *
            from retrysafe.persistence.sqlite import SQLitePersistenceLayer
            directory, owner = sys.argv[1:]
            print("ready", flush=True)
            input()
            for number in range(20):
                path = f"{directory}/{number}.db"
                with SQLitePersistenceLayer(path, synchronous="off", clock=SetClock()) as layer:
                    layer._put_record(claim(owner))
            """,
            tmp_path,
            owner,
        )
        for owner in "abcd"
    ]
    for maker in makers:
        maker.stdout.readline()
    for maker in makers:
        maker.stdin.write("go\n")
        maker.stdin.flush()
    for maker in makers:
        outcome(maker)
    for number in range(20):
        with SQLitePersistenceLayer(tmp_path / f"{number}.db", clock=SetClock()) as layer:
            for owner in "abcd":
                layer._get_record(owner)


@pytest.mark.parametrize("synchronous", ["full", "off"])
def test_what_was_acknowledged_outlives_a_killed_process(path, synchronous):
    acknowledged = []
    for life in range(4):
        victim = start(
            """
            import sys
            from support.sqlite_support import *
            from retrysafe.persistence.sqlite import SQLitePersistenceLayer
            path, synchronous, life = sys.argv[1:]
            layer = SQLitePersistenceLayer(path, synchronous=synchronous, clock=SetClock())
            for number in range(100_000):
                layer._put_record(claim(f"{life}.{number}"))
                layer._update_record(completed(f"{life}.{number}", answer=f'"{number}"' * 50))
                print(number, flush=True)
            """,
            path,
            synchronous,
            life,
        )
        acknowledged += [(life, int(victim.stdout.readline())) for _ in range(20 + 30 * life)]
        victim.kill()
        out, err = victim.communicate(timeout=60)
        assert err == ""
        acknowledged += [(life, int(line)) for line in out.splitlines(keepends=True) if line.endswith("\n")]
        with SQLitePersistenceLayer(path, synchronous=synchronous, clock=SetClock()) as layer:
            for life_then, number in acknowledged:
                record = layer._get_record(f"{life_then}.{number}")
                assert record.stored_status == COMPLETED
                assert record.response_data == f'"{number}"' * 50
    by_hand = sqlite3.connect(path)
    assert by_hand.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    by_hand.close()


@pytest.mark.parametrize("end", ["layer.close()", "del layer", "pass"], ids=["closed", "dropped", "left"])
def test_nothing_is_left_open(path, end):
    outcome(
        start(
            f"""
            import gc, sys
            from support.sqlite_support import *
            from retrysafe.persistence.sqlite import SQLitePersistenceLayer
            layer = SQLitePersistenceLayer(sys.argv[1], clock=SetClock())
            layer._put_record(claim())
            {end}
            gc.collect()
            """,
            path,
            options=("-W", "error", "-X", "dev"),
        )
    )
    assert [found.name for found in path.parent.iterdir()] == [path.name]
