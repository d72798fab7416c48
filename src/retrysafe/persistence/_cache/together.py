"""Commands with the same script as one command for many keys: what is sent, and which part of the reply is whose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrysafe.persistence._cache.commands import Command, Script


class ScriptFailedError(Exception):
    """What a script raised for one of many keys, in the server's words."""


class Together:
    """Commands with the same script, and as many arguments each, as one; or a single one.

    Args:
        script: What is sent.
        numbers: Which of the commands.
        keys: Their keys.
        arguments: What the script is told.

    Attributes:
        words: All that follows the script in EVALSHA and EVAL.
    """

    __slots__ = ("_numbers", "arguments", "keys", "script", "words")

    def __init__(self, script: Script, numbers: list[int], keys: list[str], arguments: Sequence[str]) -> None:
        self.script = script
        self._numbers = numbers
        self.keys = keys
        self.arguments = arguments
        self.words = (len(keys), *keys, *arguments)

    def put(self, got: Any, replies: list[Any]) -> None:
        """Put the replies in their places, or what was raised instead of them."""
        is_one = isinstance(got, int | str | bytes | Exception)  # for all of them
        each: list[Any] = [got] * len(self._numbers) if is_one else got
        for number, reply in zip(self._numbers, each, strict=True):
            replies[number] = _failure(reply) if type(reply) is list else reply


def together(commands: list[Command]) -> list[Together]:
    """The commands, by their scripts; mostly it is one."""
    first = commands[0]
    script, count = first.script, len(first.arguments)
    if not [each for each in commands if each.script is not script or len(each.arguments) != count]:
        as_one = _as_lines(script, count, list(range(len(commands))), commands)
        if as_one is not None:
            return [as_one]
    alike: dict[tuple[Script, int], list[int]] = {}
    apart: list[Together] = []
    for number, command in enumerate(commands):
        script, count = command.script, len(command.arguments)
        if _as_lines(script, count, [number], commands) is None:
            apart.append(Together(script, [number], [command.key], command.arguments))
        else:
            alike.setdefault((script, count), []).append(number)
    several = [_as_lines(script, count, numbers, commands) for (script, count), numbers in alike.items()]
    return [each for each in several if each is not None] + apart


def _as_lines(script: Script, count: int, numbers: list[int], commands: list[Command]) -> Together | None:
    """The same commands as one: one argument takes client and server a fraction of what many take.

    None where a name in two lines would be taken for two: of an owner, or of an attribute.
    """
    arguments = [argument for number in numbers for argument in commands[number].arguments]
    text = "\n".join([*arguments, ""])
    if text.count("\n") != len(numbers) * (script.lines + count - 1 if count else 0):
        return None
    keys = [commands[number].key for number in numbers]
    return Together(script.for_many(), numbers, keys, (str(count), str(script.lines), text))


def _failure(reply: Any) -> ScriptFailedError:
    (said,) = reply
    return ScriptFailedError(said.decode() if isinstance(said, bytes) else said)
