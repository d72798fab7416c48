"""Annotations: what a function says it returns, and which classes that names.

Only these classes are ever restored from a record: the user's code names them, the record never does. An
annotation is resolved on its own, so that another one that cannot be (a name imported for type checkers only)
takes nothing away. One that cannot be resolved counts as none.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from typing import TYPE_CHECKING, Any

from retrysafe.exact.classes import kind_of
from retrysafe.inspecting import annotations_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from retrysafe.exact.classes import Kind

NO_ANNOTATION: Any = inspect.Signature.empty


def return_annotation(function: Callable[..., Any]) -> Any:
    """The function's return annotation, resolved; `inspect.Signature.empty` where it has none.

    Looks through `functools.wraps`, `functools.partial`, methods and callable objects. A class that is called
    returns itself.

    Raises:
        Exception: Whatever resolving it raises, a NameError for the most part.
    """
    function, scope = _unwrapped(function)
    if isinstance(function, type):
        return function
    annotation = _own_annotations(function).get("return", NO_ANNOTATION)
    return annotation if annotation is NO_ANNOTATION else resolve(annotation, *scope)


def resolve(annotation: Any, globalns: dict[str, Any], localns: Mapping[str, Any]) -> Any:
    """One annotation with all its names looked up, as `typing.get_type_hints` does for a whole function."""
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    return typing.get_type_hints(holder, globalns, dict(localns), include_extras=True)["it"]


def bare(hint: Any) -> Any:
    """A resolved annotation without `Annotated` and `NewType`, and without the None of an optional one."""
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            hint = typing.get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif is_alias(hint):
            hint = hint.__value__
        elif is_union(hint):
            members = [member for member in typing.get_args(hint) if member is not type(None)]
            if len(members) != 1:
                return hint
            hint = members[0]
        else:
            return hint


def is_union(hint: Any) -> bool:
    """Whether this is `X | Y`, in either spelling."""
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def is_alias(hint: Any) -> bool:
    """Whether this is a `type X = ...` alias, which Python has from 3.12 on."""
    return type(hint).__name__ == "TypeAliasType" and typing.get_origin(hint) is None


def is_typed_dict(hint: Any) -> bool:
    """Whether this is a TypedDict, of `typing` or of `typing_extensions`."""
    return isinstance(hint, type) and "__required_keys__" in vars(hint)


def class_hints(cls: type, localns: Mapping[str, Any] = types.MappingProxyType({})) -> dict[str, Any]:
    """The resolved annotations of a class and its bases by name, without those that cannot be resolved.

    Args:
        cls: A dataclass, NamedTuple, TypedDict, pydantic model or any other class.
        localns: Further names, for classes defined inside a function.
    """
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        module = sys.modules.get(base.__module__)
        globalns = vars(module) if module is not None else {}
        parameters = {parameter.__name__: parameter for parameter in getattr(base, "__type_params__", ())}
        names = {**localns, base.__name__: base, **parameters}
        for name, annotation in _own_annotations(base).items():
            # The class body's names come second: a field `date: date = None` hides the type `date` there.
            for scope in (names, {**names, **vars(base)}):
                try:
                    hints[name] = resolve(annotation, globalns, scope)
                except Exception:  # noqa: BLE001, S112  # resolving evaluates text, which raises anything
                    continue
                break
    if kind_of(cls) == "model":
        model: Any = cls
        # A model whose annotations name a class that comes after it waits for its first use.
        if model.__pydantic_complete__ or model.model_rebuild(raise_errors=False):
            # pydantic has resolved these itself, and knows what a generic model's parameters stand for.
            hints.update({name: field.annotation for name, field in model.model_fields.items()})
    return hints


class NamedClasses:
    """The classes that some annotations reach, by the name that a mark gives them.

    That name is the qualified name, with the module before it (`module:Qualified.Name`) where two of the
    classes share it. Classes that not even the module tells apart cannot be named.
    """

    def __init__(self, classes: Iterable[type]) -> None:
        sharing: dict[str, list[type]] = {}
        for cls in classes:
            sharing.setdefault(cls.__qualname__, []).append(cls)
            sharing.setdefault(f"{cls.__module__}:{cls.__qualname__}", []).append(cls)
        self._by_name = {name: those[0] for name, those in sharing.items() if len(those) == 1}
        self._names: dict[type, str] = {}
        for name, cls in self._by_name.items():
            self._names.setdefault(cls, name)  # the shorter of its two names comes first

    def name_of(self, cls: type) -> str | None:
        """The class's name in a mark; None where no annotation names it."""
        return self._names.get(cls)

    def get(self, name: str, kind: Kind) -> Any:
        """The class of that name and kind; None where no annotation names one."""
        cls = self._by_name.get(name)
        return cls if cls is not None and kind_of(cls) == kind else None


def named_by(hints: Iterable[Any], function: Callable[..., Any] | None = None) -> NamedClasses:
    """The classes that these resolved annotations and a function's return annotation reach.

    Reaching goes through unions, containers, `Annotated`, `Literal`, `NewType`, type aliases and TypedDicts,
    and on through the annotations of the classes found. For an exception class it also goes through those of
    its `__init__`.
    """
    scope: dict[str, Any] = {}
    roots = list(hints)
    if function is not None:
        try:
            scope = _unwrapped(function)[1][1]
            roots.append(return_annotation(function))
        except Exception:  # noqa: BLE001  # an annotation that cannot be resolved counts as none
            scope = scope or {}
    reached = _Reached(scope)
    for hint in roots:
        reached.visit(hint)
    return NamedClasses(reached.classes)


class _Reached:
    """A walk over annotations that collects the classes it meets."""

    def __init__(self, localns: Mapping[str, Any]) -> None:
        self.classes: dict[type, None] = {}
        self._localns = localns
        self._seen: set[Any] = set()

    def visit(self, hint: Any) -> None:
        """Collect the classes of one resolved annotation."""
        origin = typing.get_origin(hint)
        arguments: Iterable[Any] = ()
        if origin is typing.Annotated:
            arguments = typing.get_args(hint)[:1]
        elif origin is typing.Literal:
            arguments = [type(member) for member in typing.get_args(hint)]
        elif origin is not None:
            arguments = (origin, *typing.get_args(hint))
        elif isinstance(hint, type):
            self._visit_class(hint)
        elif type(hint) is list:  # a Callable's parameters
            arguments = [*hint]
        elif hasattr(hint, "__supertype__"):  # a NewType
            arguments = (hint.__supertype__,)
        elif is_alias(hint) and hint not in self._seen:  # maybe a recursive one
            self._seen.add(hint)
            arguments = (self._value_of(hint),)
        for argument in arguments:
            self.visit(argument)

    def _value_of(self, alias: Any) -> Any:
        try:
            return resolve(alias.__value__, vars(sys.modules[alias.__module__]), self._localns)
        except Exception:  # noqa: BLE001  # an alias that cannot be resolved counts as none
            return None

    def _visit_class(self, cls: type[Any]) -> None:
        if cls in self._seen:
            return
        self._seen.add(cls)
        kind = kind_of(cls)
        if kind is not None:
            self.classes[cls] = None
        is_exception = issubclass(cls, BaseException)
        if kind in ("namedtuple", "dataclass", "model") or is_typed_dict(cls) or is_exception:
            for hint in class_hints(cls, self._localns).values():
                self.visit(hint)
        if kind == "model":
            model: Any = cls
            # A function that returns `Page[Order]` may well make a plain `Page(...)`.
            self.visit(model.__pydantic_generic_metadata__["origin"])
        if is_exception:
            self._visit_init(cls)

    def _visit_init(self, cls: type[Any]) -> None:
        init: Any = cls.__init__
        for annotation in _own_annotations(init).values():
            try:
                self.visit(resolve(annotation, getattr(init, "__globals__", {}), self._localns))
            except Exception:  # noqa: BLE001, S112  # resolving evaluates text, which raises anything
                continue


def _unwrapped(function: Any) -> tuple[Any, tuple[dict[str, Any], dict[str, Any]]]:
    """The function behind wrappers, and the names that its annotations can use: global and closed over."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = inspect.unwrap(function)
        elif inspect.ismethod(function):
            function = function.__func__
        else:
            call = None if isinstance(function, (type, types.FunctionType)) else type(function).__call__
            if not isinstance(call, types.FunctionType):
                break
            function = call
    closed_over: dict[str, Any] = {}
    if isinstance(function, types.FunctionType) and function.__closure__:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__, strict=True):
            try:
                closed_over[name] = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
    return function, (getattr(function, "__globals__", {}), closed_over)


def _own_annotations(thing: Any) -> dict[str, Any]:
    """The annotations of this function or class alone, as they were written or as far as they are known."""
    try:
        return annotations_of(thing)
    except Exception:  # noqa: BLE001  # evaluated here from Python 3.14 on, and then raises what resolving raises
        return {}
