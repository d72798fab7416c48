"""The one error of writing an answer: something in it has no stored form."""

from __future__ import annotations

from typing import Any

_LONGEST_PLACE = 10
"""Steps of a place that are shown; the rest of a deep place is left out in its middle."""


class UnstorableAnswerError(Exception):
    """The answer cannot be stored: names the place and the type, never a value. Internal to retrysafe.

    Args:
        value: What stands at the place. Only the name of its type is kept.
        reason: Why it cannot be stored; the sentence goes on behind the type's name.
        root: What the places lie in.
    """

    def __init__(self, value: object, reason: str = "cannot be stored", *, root: str = "answer") -> None:
        self.type_name = type_name(type(value))
        self.reason = reason
        super().__init__(self.type_name, reason)
        self.root = root
        self._steps: list[str] = []

    def inside(self, step: str) -> None:
        """Say where the error happened, one step further out; called on the way up."""
        self._steps.append(step)

    @property
    def place(self) -> str:
        """Where in the answer, such as `answer["a"][3].tags`."""
        steps = self._steps[::-1]
        if len(steps) > _LONGEST_PLACE:
            steps = [*steps[: _LONGEST_PLACE - 2], "...", *steps[-2:]]
        return self.root + "".join(steps)

    def __str__(self) -> str:
        return f"{self.place}: {self.type_name} {self.reason}"


def type_name(cls: type[Any]) -> str:
    """The qualified name of a class as people write it: without `builtins`."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


class TooDeepError(UnstorableAnswerError):
    """It is nested too deeply, or contains itself: no part of it can be left out as a part without a stored form."""
