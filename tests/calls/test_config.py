"""The config: every option is checked where it is made, and what it makes is as asked."""

from __future__ import annotations

import contextvars
import math
import threading
from datetime import timedelta

import pytest

from retrysafe import IdempotencyConfig
from retrysafe.exceptions import IdempotencyConfigError


async def awaited(*_):
    pass


class Awaited:
    async def __call__(self, answer, record):
        pass


SECONDS = [0, -1, math.nan, math.inf, "5", True, None]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("expires_after_seconds", value) for value in (0, -1, 0.5, 1.5, 0.0, math.inf, "60", True, None, math.nan)],
        *[("in_progress_expires_after_seconds", value) for value in SECONDS[:-1]],
        *[("wait_timeout_seconds", value) for value in SECONDS],
        *[("local_cache_max_items", value) for value in (0, -5, 1.5)],
        ("hash_function", "md6"),
        ("hash_function", "shake_128"),
        ("event_key_jmespath", "a["),
        ("event_key_jmespath", 7),
        ("payload_validation_jmespath", "{"),
        ("jmespath_options", "x"),
        ("on_in_progress", "block"),
        ("on_abandoned", "run"),
        ("replay_exceptions", [KeyboardInterrupt]),
        ("replay_exceptions", ["ValueError"]),
        ("response_hook", 3),
        ("replay_exceptions", 5),
        ("use_local_cache", "no"),
        ("raise_on_no_idempotency_key", "false"),
        ("expires_after_seconds", 10**12),
        ("in_progress_expires_after_seconds", 1e12),
        ("event_hook", "log"),
        ("event_hook", awaited),
        ("response_hook", awaited),
        ("response_hook", Awaited()),
    ],
)
def test_a_wrong_option_is_refused_with_its_name_and_value(option, value):
    with pytest.raises(IdempotencyConfigError) as refused:
        IdempotencyConfig(**{option: value})
    assert option in str(refused.value)
    assert repr(value if not isinstance(value, list) else value[0]) in str(refused.value)


def test_the_defaults_are_the_peers():
    config = IdempotencyConfig()
    assert (config.event_key_jmespath, config.payload_validation_jmespath, config.jmespath_options) == ("", "", None)
    assert (config.raise_on_no_idempotency_key, config.expires_after_seconds) == (False, 3600)
    assert (config.use_local_cache, config.local_cache_max_items, config.hash_function) == (False, 256, "md5")
    assert (config.lambda_context, config.response_hook) == (None, None)


def test_those_of_our_own_are_what_the_pages_say():
    config = IdempotencyConfig()
    assert (config.in_progress_expires_after_seconds, config.wait_timeout_seconds) == (None, 30)
    assert (config.on_in_progress, config.on_abandoned) == ("raise", "retry")
    assert (config.replay_exceptions, config.event_hook) == ((), None)


def test_options_of_the_peer_can_be_given_by_position():
    config = IdempotencyConfig("id", "amount", None, True, 60, True, 10, "sha256", "context", None)
    assert (config.event_key_jmespath, config.expires_after_seconds, config.hash_function) == ("id", 60, "sha256")
    assert config.lambda_context == "context"


def test_a_registered_context_belongs_to_the_thread_or_task_that_registered_it():
    config = IdempotencyConfig(lambda_context="own")
    seen = []

    def invocation(name):
        config.register_lambda_context(name)
        barrier.wait()
        seen.append(config.lambda_context == name)

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=invocation, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True, True]
    contextvars.copy_context().run(config.register_lambda_context, "other")
    assert config.lambda_context == "own"


def test_a_config_is_fixed_once_made():
    config = IdempotencyConfig()
    with pytest.raises(IdempotencyConfigError, match="expires_after_seconds=5"):
        config.expires_after_seconds = 5
    assert config.expires_after_seconds == 3600


def test_whole_seconds_may_be_a_float_as_those_of_a_timedelta_are():
    window = IdempotencyConfig(expires_after_seconds=timedelta(hours=2).total_seconds()).expires_after_seconds
    assert (window, type(window)) == (7200, int)


def test_a_config_of_one_s_own_may_have_attributes_of_its_own():
    class TeamConfig(IdempotencyConfig):
        def __init__(self, team):
            self.department = "payments"
            super().__init__(expires_after_seconds=60)
            self.team = team

    config = TeamConfig("cards")
    assert (config.department, config.team, config.expires_after_seconds) == ("payments", "cards", 60)
    for name in ("expires_after_seconds", "lambda_context", "keys"):
        with pytest.raises(IdempotencyConfigError, match=f"{name}=5"):
            setattr(config, name, 5)


def test_one_exception_class_may_stand_for_a_list_of_one():
    assert IdempotencyConfig(replay_exceptions=ValueError).replay_exceptions == (ValueError,)
