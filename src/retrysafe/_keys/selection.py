"""Selecting with JMESPath the part of a payload that is hashed. Imported only once an expression is set.

JMESPath itself sees nothing but dicts and lists. Here it looks into dataclasses, models and tuples too: each
is opened when the expression reaches it, and the rest of the payload is never touched, however large it is.
What has no fields that could be known is refused when the expression looks into it: JMESPath's own answer
would be null, and then payloads that differ just there would share one key.
"""

from __future__ import annotations

from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError, JMESPathTypeError
from jmespath.functions import Functions
from jmespath.visitor import Options, TreeInterpreter

from retrysafe._keys.forms import NoFormError, a_type, json_form
from retrysafe.exceptions import IdempotencyConfigError, IdempotencyKeyError
from retrysafe.jmespath_functions import PowertoolsFunctions


class Selection:
    """One compiled expression. A search leaves nothing behind here, so any number of threads may share it.

    Args:
        option: The config option that the expression is the value of, for messages.
        expression: The JMESPath expression.
        options: JMESPath's options, from `checked_options`.

    Attributes:
        calls: Whether the expression calls functions.

    Raises:
        IdempotencyConfigError: It is no JMESPath expression, or calls a function that does not exist.
    """

    __slots__ = ("_field", "_interpreter", "_option", "_tree", "calls")

    def __init__(self, option: str, expression: str, options: Options) -> None:
        self._option = option
        self._interpreter = _Interpreter(options)
        try:
            self._tree: Any = jmespath.compile(expression).parsed
        except (JMESPathError, RecursionError) as error:
            raise IdempotencyConfigError(f"{option}={expression!r} is not a JMESPath expression", error) from error
        # Most expressions name one field of a dict, which needs no interpreter.
        self._field: str | None = self._tree["value"] if self._tree["type"] == "field" else None
        functions = options.custom_functions or Functions()
        called = _called(self._tree)
        self.calls = bool(called)
        missing = called.difference(functions.FUNCTION_TABLE)
        if missing:
            raise IdempotencyConfigError(
                f"{option}={expression!r} calls unknown functions: {', '.join(sorted(missing))}. With "
                "jmespath_options there are only JMESPath's own functions and those in custom_functions"
            )

    def select(self, payload: Any) -> Any:
        """What the expression selects; None where there is nothing.

        Raises:
            IdempotencyKeyError: A function was given what it cannot take, or the expression looks into
                something that has no fields.
        """
        fields: Any = payload
        if self._field is not None and type(payload) is dict:
            return fields.get(self._field)
        try:
            return self._interpreter.visit(self._tree, payload)
        except IdempotencyKeyError as error:
            raise IdempotencyKeyError(f"{self._option}: {error.message}") from None
        except JMESPathTypeError as error:
            # Not chained: the message of JMESPath shows the value, which is private.
            given = a_type(error.current_value) if error.actual_type == "unknown" else error.actual_type
            taken = " or ".join(error.expected_types)
            message = f"{self._option}: {error.function_name}() takes {taken}, not {given}"
            raise IdempotencyKeyError(message) from None
        except RecursionError:
            raise IdempotencyKeyError(f"{self._option}: the payload is nested too deeply") from None
        except Exception as error:  # functions of the user's may raise anything
            raise IdempotencyKeyError(f"{self._option}: failed with {type(error).__name__}") from error


def checked_options(given: Any) -> Options:
    """JMESPath's options out of the config option `jmespath_options`.

    Args:
        given: None or {} for the built-in functions; else a `jmespath.Options`, or its keyword arguments as a
            dict.

    Raises:
        IdempotencyConfigError: It is none of these.
    """
    options: Any = given
    if given is None or given == {}:
        return Options(custom_functions=PowertoolsFunctions())
    if isinstance(given, dict):
        try:
            options = Options(**options)
        except TypeError as error:
            raise IdempotencyConfigError(f"jmespath_options={given!r} is not what jmespath.Options takes") from error
    if not isinstance(options, Options):
        raise IdempotencyConfigError(
            f"jmespath_options={given!r} is neither a jmespath.Options nor a dict of its arguments"
        )
    functions: Any = options.custom_functions
    if functions is not None and not isinstance(functions, Functions):
        raise IdempotencyConfigError(
            f"jmespath_options={given!r}: custom_functions must be an instance of a subclass of "
            "jmespath.functions.Functions"
        )
    return options


class _Interpreter(TreeInterpreter):
    """JMESPath's interpreter, except that what it looks into is opened first.

    What it only hands on stays as it is: a dataclass that is selected, or given to a function.
    """

    def visit_field(self, node: Any, value: Any) -> Any:
        return super().visit_field(node, _opened(value))

    def visit_index(self, node: Any, value: Any) -> Any:
        return super().visit_index(node, _opened(value))

    def visit_slice(self, node: Any, value: Any) -> Any:
        return super().visit_slice(node, _opened(value))

    def visit_projection(self, node: Any, value: Any) -> list[Any] | None:
        return super().visit_projection(self._with_base_opened(node, value), value)

    def visit_filter_projection(self, node: Any, value: Any) -> list[Any] | None:
        return super().visit_filter_projection(self._with_base_opened(node, value), value)

    def visit_value_projection(self, node: Any, value: Any) -> list[Any] | None:
        return super().visit_value_projection(self._with_base_opened(node, value), value)

    def visit_flatten(self, node: Any, value: Any) -> Any:
        return super().visit_flatten(self._with_base_opened(node, value), value)

    def _with_base_opened(self, node: Any, value: Any) -> Any:
        """The node with its first child, what it looks into, worked out and opened."""
        base, *others = node["children"]
        opened: Any = {"type": "literal", "value": _opened(self.visit(base, value)), "children": []}
        return {**node, "children": [opened, *others]}


def _opened(value: Any) -> Any:
    """The value as JMESPath can look into it: a dict, a list, or a scalar as it is."""
    inside: Any = value
    if value is None or isinstance(value, (dict, list, str, int, float)):
        return inside
    if isinstance(value, tuple):
        return list(inside)
    try:
        form = json_form(value)
    except NoFormError:
        if hasattr(value, "get"):  # JMESPath looks into mappings of any class by itself
            return value
        raise IdempotencyKeyError(f"JMESPath cannot look into {a_type(value)}") from None
    return _opened(form) if isinstance(form, (dict, list, tuple)) else value


def _called(node: Any) -> set[str]:
    """The functions that a syntax tree calls."""
    names = {node["value"]} if node["type"] == "function_expression" else set[str]()
    # The children of a slice are numbers.
    return names.union(*(_called(child) for child in node["children"] if isinstance(child, dict)))
