"""The measuring loop: two subjects timed in turns, in many short rounds, so that only their ratio is reported.

On a machine that others use too, two figures taken one after the other differ by what happened in between. Here
each round times both subjects within a few milliseconds, and gives one ratio; the median of all rounds is the
result. A round in which somebody else got in the way is an outlier on either side, which a median ignores. A ratio
of two minima would compare two moments at which the processor may have run at different speeds.

pyperf does the timing. By itself it times one subject to the end before it begins the next, as pytest-benchmark does;
so it is given one round at a time, as the worker process that it would start for that. The garbage collector is off
while the clock runs, as in timeit, and the first rounds are thrown away.
"""

from __future__ import annotations

import functools
import gc
import io
import itertools
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, TypeAlias

import pyperf

Batch: TypeAlias = Callable[[], object]
"""What is timed."""

Subject: TypeAlias = Callable[[], Batch]
"""Gets one round ready, untimed: stores, payloads; the batch that it returns is timed once."""

Clock: TypeAlias = Callable[[], int]

WARM_UP_ROUNDS = 3


@dataclass(frozen=True)
class Comparison:
    """What the rounds gave.

    Attributes:
        ratio: Median of the rounds' ratios, first subject's time to the second's.
        spread: The quartiles around it.
        first_ns: Median of the first subject's time per call, in nanoseconds; for orientation only.
        second_ns: The second's.
        rounds: How many rounds.
    """

    ratio: float
    spread: tuple[float, float]
    first_ns: float
    second_ns: float
    rounds: int


def compare(
    first: Subject, second: Subject, *, calls: int, rounds: int, clock: Clock = time.process_time_ns
) -> Comparison:
    """Time both in turns.

    Args:
        first: One subject.
        second: The other.
        calls: How many calls one batch makes.
        rounds: How many rounds count.
        clock: What is read before and after a batch, in nanoseconds. Default: the processor time of all threads,
            since a batch that is longer is also the more likely to be held up by another process.
            `time.perf_counter_ns` for batches that wait for a disk.
    """
    gc.collect()
    gc.freeze()  # what was imported need not be looked through before each batch
    times: list[tuple[float, float]] = []
    for index in range(WARM_UP_ROUNDS + rounds):
        # Who begins changes from round to round, so that being second is nobody's advantage.
        if index % 2:
            one = _timed(first, clock)
            other = _timed(second, clock)
        else:
            other = _timed(second, clock)
            one = _timed(first, clock)
        if index >= WARM_UP_ROUNDS:
            times.append((one / calls, other / calls))
    return summarised(times)


def summarised(times: list[tuple[float, float]]) -> Comparison:
    """What rounds come to, each given as the times per call of both subjects, in nanoseconds."""
    ratios = [one / other for one, other in times]
    lower, _, upper = quantiles(ratios, n=4) if len(times) > 1 else (ratios[0],) * 3
    return Comparison(
        ratio=median(ratios),
        spread=(lower, upper),
        first_ns=median(one for one, _ in times),
        second_ns=median(other for _, other in times),
        rounds=len(times),
    )


def _timed(subject: Subject, clock: Clock) -> float:
    """Nanoseconds for one batch."""
    batch = subject()

    def timed(loops: int) -> float:
        started = clock()
        for _ in range(loops):
            batch()
        return (clock() - started) / 1e9

    gc.collect()
    gc.disable()
    try:
        with redirect_stdout(io.StringIO()):  # it reports each
            seconds: float = _pyperf().bench_time_func(f"round {next(_ROUNDS)}", timed).mean()
    finally:
        gc.enable()
    return seconds * 1e9


@functools.cache
def _pyperf() -> Any:
    """The worker of pyperf, which times one value of one loop, here and now. There can be one of them."""
    runner = pyperf.Runner()
    runner.parse_args(["--worker", "--loops=1", "--values=1", "--warmups=0", "--quiet"])
    return runner


_ROUNDS = itertools.count(1)
