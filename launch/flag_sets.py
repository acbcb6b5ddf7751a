"""absl flags made from settings classes, and settings made from parsed flags.

Each command has a FlagValues of its own: Launchpad and TensorFlow define flags in the global one.
"""

import dataclasses
import itertools
import types
import typing
from typing import Any

from absl import flags

from kipper.common.errors import UserError
from kipper.common.settings import Settings, choices_of
from kipper.common.settings.field import check_required, words_for_counts


def parse(
    settings_classes: tuple[type[Settings], ...],
    command: str,
    arguments: list[str],
    positional: str | None = None,
) -> list[Settings]:
    """Settings from command-line arguments, one object of each class; `--flagfile=FILE` works.

    Args:
        settings_classes: what to make; no two have a field of the same name.
        command: its name, for messages.
        arguments: those after the command's name.
        positional: the flag that arguments without a name belong to: one argument, or any number
            for a flag that is a tuple.

    Raises:
        UserError: an unknown flag, a bad value, an argument that belongs to no flag, or a required
            flag that is missing.
    """
    flag_values = _define(settings_classes)
    try:
        rest = flag_values([command, *arguments])[1:]
    except flags.Error as error:
        raise UserError(f"{error}; see kipper {command} --help.") from error
    if positional is not None:
        rest = _take(flag_values, positional, rest)
    if rest:
        raise UserError(f"Unexpected argument {rest[0]!r}; flags are given as --name=value.")
    parsed: list[Settings] = []
    for settings_class in settings_classes:
        fields = dataclasses.fields(settings_class)
        values = {field.name: _value(field, flag_values) for field in fields}
        check_required(settings_class, values)
        parsed.append(settings_class(**values))
    return parsed


def _take(flag_values: flags.FlagValues, name: str, rest: list[str]) -> list[str]:
    """Gives a flag the arguments that have no name; returns those it has no room for."""
    flag = flag_values[name]
    if isinstance(flag, flags.MultiFlag):
        flag.value = [*(flag.value or ()), *rest]
        return []
    if len(rest) != 1 or flag.present:
        return rest
    flag.value = rest[0]
    return []


def _value(field: "dataclasses.Field[Any]", flag_values: flags.FlagValues) -> Any:
    value = getattr(flag_values, field.name)
    return tuple(value) if isinstance(value, list) else value


def describe(settings_class: type[Settings]) -> str:
    """The flags of a command with defaults and choices, for --help."""
    lines = []
    for field in dataclasses.fields(settings_class):
        shown = "|".join(choices_of(field))
        default = shown_default(field)
        bracketed = f" [{default}]" if default else ""
        lines.append(f"  --{field.name}{'=' + shown if shown else ''}{bracketed}")
        lines.append(f"      {field.metadata['help']}")
    return "\n".join(lines)


def shown_default(field: dataclasses.Field[Any]) -> str:
    """The default of a flag, or "required"; "" if it is unset by default."""
    if field.metadata["missing"]:
        return "required"
    return "" if field.default is None or field.default is False else str(field.default)


def _define(settings_classes: tuple[type[Settings], ...]) -> flags.FlagValues:
    flag_values = flags.FlagValues()
    flag_values.set_gnu_getopt(True)  # an argument without a name does not end the flags
    for field in itertools.chain(*map(dataclasses.fields, settings_classes)):
        kind, text = _flag_type(field.type), field.metadata["help"]
        default: Any = None if field.metadata["missing"] else field.default
        choices = choices_of(field)
        if words := words_for_counts(field):
            flags.DEFINE(_CountParser(words), field.name, default, text, flag_values=flag_values)
        elif choices:
            flags.DEFINE_enum(field.name, default, choices, text, flag_values=flag_values)
        elif kind is bool:
            flags.DEFINE_boolean(field.name, default, text, flag_values=flag_values)
        elif kind is tuple:
            flags.DEFINE_multi_string(field.name, default, text, flag_values=flag_values)
        elif kind is int:
            flags.DEFINE_integer(field.name, default, text, flag_values=flag_values)
        elif kind is float:
            flags.DEFINE_float(field.name, default, text, flag_values=flag_values)
        else:
            flags.DEFINE_string(field.name, default, text, flag_values=flag_values)
    return flag_values


class _CountParser(flags.ArgumentParser):
    """Takes a whole number, or one of the words that stand for one."""

    def __init__(self, words: tuple[str, ...]):
        self._words = words

    def parse(self, argument: str | int) -> str | int:
        if argument in self._words:
            return argument
        try:
            return int(argument)
        except ValueError:
            words = " or ".join(self._words)
            raise ValueError(f"it must be a whole number or {words}") from None

    def flag_type(self) -> str:
        return f"int or {' or '.join(self._words)}"


def _flag_type(annotation: Any) -> type:
    """int for `int` and for `int | None`; tuple for `tuple[str, ...]`."""
    if isinstance(annotation, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    return typing.get_origin(annotation) or annotation
