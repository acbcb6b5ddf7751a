"""Signatures and docstrings of functions whose keywords are settings, made from their classes."""

import contextlib
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, TypeVar

from kipper.common.errors import KipperError
from kipper.common.settings import Settings, choices_of
from kipper.common.settings.values import keyword_fields

_P = ParamSpec("_P")
_R = TypeVar("_R")

_WIDTH = 92  # of docstrings, which the stub indents
_ENTRY = re.compile(r"^( *)\*\*settings:.*\n", re.MULTILINE)


def takes_settings(
    *classes: type[Settings], without: tuple[str, ...] = ()
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Gives a function the fields of settings classes as keywords, in place of its **settings.

    The function's signature then has them with their types and defaults, and its docstring their
    help, in place of the entry `**settings`. Errors for the user name keywords instead of flags.

    Args:
        classes: of the settings.
        without: fields that the function sets itself.
    """

    def changed(function: Callable[_P, _R]) -> Callable[_P, _R]:
        signature = inspect.signature(function)
        kept = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        fields = keyword_fields(*classes, without=(*without, *signature.parameters))
        keywords = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=field.type,
            )
            for field in fields
        ]
        taken = {field.name for cls in classes for field in dataclasses.fields(cls)}
        names = {name: name for name in taken - {*without} | {*signature.parameters}}

        def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with naming_keywords(names):
                return function(*args, **kwargs)

        for name in ("__module__", "__name__", "__qualname__"):
            setattr(called, name, getattr(function, name))
        called.__doc__ = _with_entries(inspect.getdoc(function) or "", fields, names)
        called.__dict__["__signature__"] = signature.replace(parameters=[*kept, *keywords])
        return called

    return changed


def _with_entries(
    doc: str, fields: "list[dataclasses.Field[Any]]", names: Mapping[str, str]
) -> str:
    def entries(match: re.Match[str]) -> str:
        return "".join(_entry(field, match[1], names) for field in fields)

    return _ENTRY.sub(entries, doc + "\n").rstrip("\n")


def _entry(field: "dataclasses.Field[Any]", indent: str, names: Mapping[str, str]) -> str:
    text = in_keywords(field.metadata["help"], names)
    if choices := choices_of(field):
        text += f" One of {', '.join(choices)}."
    lines = textwrap.wrap(
        f"{field.name}: {text}",
        _WIDTH - len(indent),
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "".join(f"{indent}{line}\n" for line in lines)


def in_keywords(text: str, names: Mapping[str, str]) -> str:
    """The text with keywords in place of flags: steps for --steps; `names` has them by flag."""
    return re.sub(r"--(\w+)", lambda match: names.get(match[1], match[0]), text)


@contextlib.contextmanager
def naming_keywords(names: Mapping[str, str]) -> Iterator[None]:
    """Errors that leave the block name keywords instead of flags; `names` has them by flag."""
    try:
        yield
    except KipperError as error:
        if len(error.args) == 1:  # a sentence; a `WriteError` has a number and paths
            error.args = (in_keywords(str(error), names),)
        raise
