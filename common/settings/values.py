"""Values of settings that come from Python code: converted where they fit, refused where not."""

import dataclasses
import difflib
import os
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from kipper.common.errors import UserError
from kipper.common.settings.field import Settings, words_for_counts


def keyword_fields(
    *classes: type[Settings], without: tuple[str, ...] = ()
) -> "list[dataclasses.Field[Any]]":
    """The fields of settings classes but `without`, each once."""
    fields = {field.name: field for cls in classes for field in dataclasses.fields(cls)}
    return [field for name, field in fields.items() if name not in without]


def fitted_values(
    settings_classes: tuple[type[Settings], ...],
    values: Mapping[str, object],
    without: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The values of settings by name, each as its field's type.

    NumPy's numbers become Python's, whole floats such as 1e3 integers where the field is one,
    integers floats, and paths text. `without` names fields that may not be given.

    Raises:
        UserError: a name is unknown, or a value is of another type.
    """
    fields = {field.name: field for field in keyword_fields(*settings_classes, without=without)}
    fitted = {}
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            meant = f" Did you mean {near[0]}?" if near else ""
            known = ", ".join(sorted(fields))
            raise UserError(f"Unknown setting {name!r}; known are {known}.{meant}")
        fitted[name] = _fitted(fields[name], value)
    return fitted


def _fitted(field: "dataclasses.Field[Any]", value: object) -> Any:
    kinds = typing.get_args(field.type) if _is_union(field.type) else (field.type,)
    if value is None and type(None) in kinds:
        return None
    words = words_for_counts(field)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():  # of NumPy, JAX or torch
        value = item()
    for kind in kinds:
        found = _as(kind, value)
        # If there are choices alone, `Settings.check` names them.
        if found is not None and (found in words or not words or not isinstance(found, str)):
            return found
    texts = _as(tuple[str, ...], value)
    instead = f", such as {','.join(texts)!r}" if texts and str in kinds else ""
    raise UserError(
        f"{field.name} is {value!r:.60}, of type {type(value).__name__}; it must be "
        f"{_in_words(field)}{instead}."
    )


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (types.UnionType, typing.Union)


def _as(kind: Any, value: object) -> Any:
    """The value as one of a kind; None if it is not one."""
    if kind is bool:
        return value if isinstance(value, bool) else None
    if kind is int or kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if kind is int and value != value // 1:
            return None
        return int(value) if kind is int else float(value)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            return None
        each = [_as(typing.get_args(kind)[0], one) for one in value]
        return None if None in each else tuple(each)
    if kind is str or typing.get_origin(kind) is Literal:
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        return str(value) if isinstance(value, str) else None
    return None


def _in_words(field: "dataclasses.Field[Any]") -> str:
    """A description of the values that a field takes."""
    kinds = typing.get_args(field.type) if _is_union(field.type) else (field.type,)
    if words := words_for_counts(field):
        return " or ".join(["a whole number", *map(repr, words)])
    names = {bool: "True or False", int: "a whole number", float: "a number"}
    said = [names.get(kind, "text") for kind in kinds if kind is not type(None)]
    if typing.get_origin(kinds[0]) is tuple:
        said = ["a list of texts"]
    return " or ".join([*dict.fromkeys(said), *(["None"] if type(None) in kinds else [])])
