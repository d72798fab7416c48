"""What it means how a point came out: the verdict, the reason and what to do about it, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from retrysafe.testing._crash.effects import Tally, differences

if TYPE_CHECKING:
    from retrysafe.testing._crash.calls import Ending, Lived
    from retrysafe.testing.crash_report import Verdict

OUTSIDE = "The effect is made outside of an idempotent function, by every call."

MOVE_INSIDE = (
    "make the effect inside the idempotent function; or give it an idempotent function of its own (or an "
    "idempotent_block)."
)
KEY_FOR = (
    'hand current_execution().key_for("...") on as the idempotency key of the downstream call, which is the same in '
    "every attempt; or store it with the effect, in one transaction and a column that takes each key once. Where "
    'neither can be had, on_abandoned="raise" lets a person decide.'
)
STEADY_KEY = (
    "let event_key_jmespath, data_keyword_argument or key= select what stays the same in a retry, and don't change the "
    "arguments in the function."
)
BEFORE_RETURN = (
    "make the effect, flush the buffer, await the task or commit before the idempotent function returns: with its "
    "return it counts as done."
)
MARKS = (
    "let nothing that a run leaves behind count as the effect itself: set such marks after it or in one transaction "
    "with it, and leave it to retrysafe whether to run."
)
RUNNABLE = "make each step one that can be done again where an earlier run was cut off at any line."
SAME_ANSWER = (
    "derive what the answer holds from the arguments and from key_for(), or look up what the first run has made, "
    "instead of making it anew."
)
SAME_COURSE = (
    "let each call take the same course: fill caches in before_each, fix random numbers, and don't wait for real time."
)


class Tried(NamedTuple):
    """One point, tried out.

    Attributes:
        killed: The life that was to end there.
        retries: Those of the tries after it.
        duplicate: That of a last call, when there was an answer.
        when_killed: The effects when the first life was over.
        seen: The effects at the end.
    """

    killed: Lived
    retries: tuple[Lived, ...]
    duplicate: Lived | None
    when_killed: Tally
    seen: Tally


class Judgement(NamedTuple):
    """The verdict on a point, and the words that go with it."""

    verdict: Verdict
    why: str = ""
    advice: str = ""


def doubled(expected: Tally, seen: Tally) -> frozenset[Any]:
    """The effects that happened too often."""
    return frozenset(effect for effect, (wanted, times) in differences(expected, seen).items() if times > wanted)


def judge(
    tried: Tried, expected: Tally, answer: Ending | None, outside: frozenset[Any], keys: frozenset[str]
) -> Judgement:
    """Judge a point at which the process was killed.

    Args:
        tried: What was seen.
        expected: The effects of an undisturbed run.
        answer: Its answer; None where two undisturbed runs gave different ones.
        outside: The effects that a mere duplicate doubles.
        keys: The idempotency keys of undisturbed runs.
    """
    differing = differences(expected, tried.seen)
    too_often = doubled(expected, tried.seen)
    last = tried.retries[-1].ending
    if too_often:
        return _doubled(tried, too_often, outside, keys)
    if tried.retries[-1].stopped:
        happened = "The effect had happened." if not differing else "It had not happened in full."
        return Judgement(
            "stopped",
            'The retry got IdempotencyAbandonedError, as on_abandoned="raise" asks: nothing runs again until a person '
            f"has found out whether the effect happened. {happened}",
        )
    if tried.duplicate is None:
        return Judgement("no answer", f"{len(tried.retries)} retries got no answer; the last one: {last}", RUNNABLE)
    if differing:
        return _lost(tried)
    return _answers(tried, answer)


def missed(instead: str) -> Judgement:
    """Judge a point that no try came to; `instead` says what the call did."""
    return Judgement("not reached", f"The call took another course, and {instead}.", SAME_COURSE)


def judge_undisturbed(tried: Tried, expected: Tally, answer: Ending | None) -> Judgement:
    """Judge a call that was not killed, and a duplicate of it."""
    if differences(expected, tried.seen):
        if tried.duplicate is not None and not set(tried.duplicate.keys) <= set(tried.killed.keys):
            return Judgement("doubled", _other_key(tried.killed, tried.duplicate), STEADY_KEY)
        return Judgement(
            "doubled" if doubled(expected, tried.seen) else "lost",
            f"Nothing was killed, and yet the duplicate changed the effects. {OUTSIDE}",
            MOVE_INSIDE,
        )
    return _answers(tried, answer)


def _doubled(tried: Tried, effects: frozenset[Any], outside: frozenset[Any], keys: frozenset[str]) -> Judgement:
    first = tried.killed
    # A call that makes several others has not come to the keys of all when it is killed.
    again = next((life for life in tried.retries if not set(life.keys) <= keys.union(first.keys)), None)
    if first.keys and again is not None:
        return Judgement("doubled", _other_key(first, again), STEADY_KEY)
    had_happened = any(tried.when_killed.get(effect, 0) for effect in effects)
    if effects <= outside or first.phase == "completed":
        return Judgement("doubled", OUTSIDE, MOVE_INSIDE)
    if first.phase == "running" and had_happened:
        return Judgement(
            "doubled",
            "The effect had happened, and the answer was not stored yet. A retry cannot know that, so it ran the "
            "function again when the lease was over.",
            KEY_FOR,
        )
    return Judgement("doubled", "The retry made the effect more often than an undisturbed call.", RUNNABLE)


def _lost(tried: Tried) -> Judgement:
    if tried.killed.phase == "completed":
        return Judgement(
            "lost",
            "The answer was stored before the effect had happened. So the retry got the answer, and nothing makes up "
            "for the effect.",
            BEFORE_RETURN,
        )
    if any(life.runs for life in tried.retries):
        return Judgement(
            "lost",
            "The retry ran the function again, and yet the effect did not happen: something that the killed run left "
            "behind made it pass the effect by.",
            MARKS,
        )
    return Judgement("lost", "The retry got its answer without the effect, which is made elsewhere.", MOVE_INSIDE)


def _answers(tried: Tried, answer: Ending | None) -> Judgement:
    got = tried.retries[-1].ending if tried.retries else tried.killed.ending
    again = None if tried.duplicate is None else tried.duplicate.ending
    if got is not None and again is not None and not got.same_as(again):
        return Judgement(
            "other answer",
            f"The effects are right, but two callers got different answers: {got} and {again}.",
            "let what the answer is made of stand inside the idempotent function.",
        )
    if got is not None and answer is not None and not got.same_as(answer):
        return Judgement(
            "other answer",
            f"The effects are right, but the retry got another answer than an undisturbed run: {got} instead of "
            f"{answer}.",
            SAME_ANSWER,
        )
    return Judgement("ok")


def _other_key(first: Lived, again: Lived) -> str:
    return (
        f"The same call came with another idempotency key: {', '.join(again.keys)} instead of {', '.join(first.keys)}. "
        f"So it is another call, and runs."
    )
