"""Writes the stub that tells type checkers and editors the signatures of kipper's public names.

`python -m kipper.launch.interface.stub > __init__.pyi` after a setting was added or changed.
"""

import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

from numpy.typing import ArrayLike

import kipper
from kipper.launch.interface.given import Given, GivenImages
from kipper.launch.interface.runs import Callback

_HEAD = '''"""Distills image data sets with exact infinite-width convolutional kernels."""

# Written by `python -m kipper.launch.interface.stub`.

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin

from kipper.common.datasets import Dataset as Dataset
from kipper.common.errors import Interrupted as Interrupted
from kipper.common.errors import KipperError as KipperError
from kipper.common.errors import UserError as UserError
from kipper.common.notices import DataWarning as DataWarning
from kipper.launch.commands.evaluate import FileEvaluation
from kipper.launch.commands.natural import NaturalEvaluation
from kipper.launch.interface.comparing import RunTable
from kipper.launch.interface.given import Given, GivenImages
from kipper.launch.interface.progress import Progress
from kipper.launch.interface.runs import Callback

__version__: str
__all__: list[str]
'''
_TYPES = ("DataWarning", "Dataset", "Interrupted", "KipperError", "UserError")
_NAMED: tuple[tuple[Any, str], ...] = (
    (Given, "Given"),
    (GivenImages, "GivenImages"),
    (Callback, "Callback"),
    (ArrayLike, "ArrayLike"),
)
_MODULES = {"numpy": "np."}
_QUALIFIED = ("os", "pathlib")

_STARS: dict[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}

_Function: TypeAlias = Callable[..., Any]


def stub() -> str:
    """The content of __init__.pyi."""
    parts = [_HEAD]
    for name in sorted(set(kipper.__all__) - {*_TYPES}):
        found = getattr(kipper, name)
        lines = _class(found) if isinstance(found, type) else _function(name, found)
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _class(cls: type) -> Iterator[str]:
    bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not object)
    yield f"class {cls.__name__}({bases}):" if bases else f"class {cls.__name__}:"
    yield from _docstring(cls, "    ")
    for name, kind in inspect.get_annotations(cls).items():
        if not name.startswith("_"):
            yield f"    {name}: {type_text(kind)}"
    for name, member in vars(cls).items():
        if name.startswith("_") and not (name == "__init__" and member.__doc__):
            continue  # objects without a documented constructor come from functions
        get = getattr(member, "fget", None) or getattr(member, "func", None)
        if get is not None:
            yield "    @property"
        if get is not None or inspect.isfunction(member):
            yield from (f"    {line}".rstrip() for line in _function(name, get or member))


def _function(name: str, function: _Function) -> Iterator[str]:
    signature = inspect.signature(function)
    yield f"def {name}("
    keyword_only = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            keyword_only = True
        elif parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            yield "    *,"
        yield f"    {_parameter(parameter)},"
    result = None if name == "__init__" else signature.return_annotation
    yield f") -> {type_text(result)}:"
    yield from _docstring(function, "    ")
    yield "    ..."


def _parameter(parameter: inspect.Parameter) -> str:
    stars = _STARS.get(parameter.kind, "")
    if parameter.annotation is parameter.empty:
        return stars + parameter.name
    default = "" if parameter.default is parameter.empty else f" = {_literal(parameter.default)}"
    return f"{stars}{parameter.name}: {type_text(parameter.annotation)}{default}"


def _docstring(documented: Any, indent: str) -> list[str]:
    doc = inspect.getdoc(documented)
    if doc is None:
        return []
    lines = textwrap.indent(f'"""{doc}', indent).split("\n")
    return [*lines[:-1], f'{lines[-1]}"""'] if len(lines) == 1 else [*lines, f'{indent}"""']


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def type_text(kind: Any) -> str:
    """A type as it is written in a source."""
    for named, name in _NAMED:
        if kind == named:
            return name
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, str):
        return kind
    if kind is None or kind is type(None):
        return "None"
    if kind is ...:
        return "..."
    if origin in (types.UnionType, typing.Union):
        return " | ".join(map(type_text, arguments))
    if origin is Literal:
        return f"Literal[{', '.join(map(_literal, arguments))}]"
    if origin is not None:
        return f"{_name(origin)}[{', '.join(map(type_text, arguments))}]"
    return _name(kind)


def _name(kind: Any) -> str:
    module = kind.__module__.partition(".")[0]
    if module in _QUALIFIED:
        return f"{module}.{kind.__name__}"
    return _MODULES.get(module, "") + kind.__name__


if __name__ == "__main__":
    print(stub(), end="")
