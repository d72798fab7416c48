"""The demo's message queue: deals deliveries to worker processes, and kills one of them.

Like any queue, it delivers again what a dead worker has not acknowledged. Unlike any queue, it learns from the worker
when the worst moment to kill it has come.
"""

import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self, TypeAlias

WORKERS = 4
KILL_ME_NOW = "kill me now"

Event: TypeAlias = dict[str, Any]


class Worker:
    """A worker process, and the pipe to it.

    Args:
        work: What the process runs. It receives pairs of an event and whether to ask for its death in the middle of
            it, and sends the outcome of each event.
    """

    def __init__(self, work: Callable[[Connection], None]) -> None:
        context = get_context("spawn")
        self.pipe, its_end = context.Pipe()
        self.process = context.Process(target=work, args=(its_end,), daemon=True)
        # Ctrl-C reaches every process of the terminal. Workers leave it to the queue, which hangs up.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.process.start()
        signal.signal(signal.SIGINT, handler)
        its_end.close()

    def dismiss(self) -> None:
        """Hang up, and wait until it has finished what it is at."""
        self.pipe.close()
        self.process.join(timeout=5)
        self.process.kill()


class Queue:
    """Delivers each event to one of the workers, and again if that one dies.

    Args:
        events: The events, in the order in which they are delivered.
        work: What a worker process runs; see `Worker`.
        say: Told what happens to the workers.

    Attributes:
        redelivered: How many events were delivered again.
    """

    def __init__(self, events: list[Event], work: Callable[[Connection], None], say: Callable[[str], object]) -> None:
        self.redelivered = 0
        self._waiting = deque(events)
        self._in_hand: dict[Worker, Event] = {}
        self._workers: list[Worker] = []
        self._fatal: Event | None = _in_the_middle(events)
        self._work = work
        self._say = say

    def __enter__(self) -> Self:
        self._workers += [Worker(self._work) for _ in range(WORKERS)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self._workers:
            worker.dismiss()

    def outcomes(self) -> Iterator[str]:
        """Deliver until everything is acknowledged; gives the outcome of each delivery as it comes."""
        while self._waiting or self._in_hand:
            for worker in self._workers:
                if self._waiting and worker not in self._in_hand:
                    event = self._in_hand[worker] = self._waiting.popleft()
                    worker.pipe.send((event, event is self._fatal))
            heard = wait([worker.pipe for worker in self._in_hand])
            for worker in [worker for worker in self._workers if worker.pipe in heard]:
                yield from self._listen_to(worker)

    def _listen_to(self, worker: Worker) -> Iterator[str]:
        try:
            message = worker.pipe.recv()
        except (EOFError, ConnectionError):
            self._replace(worker)
            return
        if message == KILL_ME_NOW:
            self._fatal = None  # once is enough
            worker.process.kill()
            return
        del self._in_hand[worker]
        yield message

    def _replace(self, dead: Worker) -> None:
        """Start another worker, and have what the dead one did not acknowledge delivered next."""
        dead.process.join()
        if dead.process.exitcode != -signal.SIGKILL:
            raise RuntimeError(f"a worker failed, its exit code is {dead.process.exitcode}")
        event = self._in_hand.pop(dead)
        self._waiting.appendleft(event)
        self.redelivered += 1
        self._workers[self._workers.index(dead)] = Worker(self._work)
        self._say(f"SIGKILL: a worker died while it charged {event['payment_id']}; another takes its place")


def _in_the_middle(events: list[Event]) -> Event:
    """The event nearest to the middle of those that come only once, so that no duplicate is handled before it."""
    times = Counter(event["payment_id"] for event in events)
    single = [place for place, event in enumerate(events) if times[event["payment_id"]] == 1]
    if not single:
        raise ValueError("every payment comes more than once: make a file with fewer duplicates")
    return events[min(single, key=lambda place: abs(place - len(events) // 2))]
