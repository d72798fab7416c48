"""Commands with the same script as one command for many keys: what is sent, and which part of the reply is whose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrysafe.persistence._cache_commands import Command, Script


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
    alike: dict[tuple[Script, int], list[int]] = {}
    apart: list[Together] = []
    for number, command in enumerate(commands):
        script, arguments = command.script, command.arguments
        # A name in two lines would be taken for two: of an owner, or of an attribute.
        if "\n" in "".join(arguments[1:] if script.lines > 1 else arguments):
            apart.append(Together(script, [number], [command.key], arguments))
        else:
            alike.setdefault((script, len(arguments)), []).append(number)
    return [_as_lines(script, count, numbers, commands) for (script, count), numbers in alike.items()] + apart


def _as_lines(script: Script, count: int, numbers: list[int], commands: list[Command]) -> Together:
    """The same commands as one: one argument takes client and server a fraction of what many take."""
    lines: list[str] = []
    for number in numbers:
        lines += commands[number].arguments
    lines.append("")
    keys = [commands[number].key for number in numbers]
    return Together(script.for_many(), numbers, keys, (str(count), str(script.lines), "\n".join(lines)))


def _failure(reply: Any) -> ScriptFailedError:
    (said,) = reply
    return ScriptFailedError(said.decode() if isinstance(said, bytes) else said)
