"""Rebuilds dataclasses from JSON by their type hints."""

import dataclasses
import functools
import types
import typing
from typing import Any


def decode(hint: Any, value: Any) -> Any:
    """The value of type `hint` that became `value` on its way through JSON.

    Fields that are missing get their defaults; those that earlier versions had are left out.

    Dataclasses may be lists (`dataclasses.astuple`) or objects (`dataclasses.asdict`); JSON has
    turned tuples and sets into lists, and dictionary keys into strings.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: `value` has another structure.
    """
    origin, arguments = _parts(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = _hints(hint)
        named = value if isinstance(value, dict) else dict(zip(hints, value, strict=True))
        known = {name: each for name, each in named.items() if name in hints}
        return hint(**{name: decode(hints[name], each) for name, each in known.items()})
    if origin is dict:
        key_type, value_type = arguments
        return {key_type(key): decode(value_type, each) for key, each in value.items()}
    if origin is tuple and arguments[-1] is not ...:
        return tuple(decode(*pair) for pair in zip(arguments, value, strict=True))
    if origin in (list, set, tuple):
        return origin(decode(arguments[0], each) for each in value)
    if origin is types.UnionType and value is not None:
        return decode(arguments[0], value)  # the only unions are those with None
    return value


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return typing.get_origin(hint), typing.get_args(hint)
