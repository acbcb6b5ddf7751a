"""absl flags made from settings classes, and settings made from parsed flags.

Each command has a FlagValues of its own: Launchpad and TensorFlow define flags in the global one.
"""

import contextlib
import dataclasses
import difflib
import itertools
import re
import textwrap
import types
import typing
from collections.abc import Sequence
from typing import Any

from absl import flags

from kipper.common.errors import UserError
from kipper.common.settings import DryRunSettings, EstimateSettings, Settings, choices_of
from kipper.common.settings.field import check_required, words_for_counts

_WIDTH, _INDENT = 96, 6 * " "  # of help texts

# Of an estimate, which writes nothing.
_NO_WORKDIR = "kipper-run"


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
        given = flag_values.read_flags_from_files(arguments, force_gnu=True)
        rest = flag_values([command, *_with_underscores(given, flag_values)])[1:]
    except flags.IllegalFlagValueError as error:
        raise UserError(f"{_refused(str(error))}; see kipper {command} --help.") from error
    except flags.UnrecognizedFlagError as error:
        close = difflib.get_close_matches(error.flagname.replace("-", "_"), flag_values, 1)
        meant = f" (did you mean --{close[0]}?)" if close else ""
        raise UserError(
            f"Unknown flag --{error.flagname}{meant}; see kipper {command} --help."
        ) from error
    except flags.Error as error:
        raise UserError(f"{error}; see kipper {command} --help.") from error
    if positional is not None:
        rest = _take(flag_values, positional, rest)
    if rest:
        raise UserError(f"Unexpected argument {rest[0]!r}; flags are given as --name=value.")
    is_estimate = EstimateSettings in settings_classes
    if is_estimate or (DryRunSettings in settings_classes and flag_values["dry_run"].value):
        workdir = flag_values["workdir"]
        workdir.value = workdir.value or _NO_WORKDIR
    parsed: list[Settings] = []
    for settings_class in settings_classes:
        fields = dataclasses.fields(settings_class)
        values = {field.name: _value(field, flag_values) for field in fields}
        chosen = {name: value for name, value in values.items() if flag_values[name].present}
        values |= {**settings_class.expansion(chosen), **chosen}
        check_required(settings_class, values)
        parsed.append(settings_class(**values))
    return parsed


def _with_underscores(arguments: list[str], known: flags.FlagValues) -> list[str]:
    """The arguments with flags as they are named: --support-size is --support_size."""
    found: list[str] = []
    for position, argument in enumerate(arguments):
        if argument == "--":
            return [*found, *arguments[position:]]
        name, equals, value = argument.partition("=")
        named = name.lstrip("-").replace("-", "_")
        positive = named.removeprefix("no_")
        if name.startswith("-") and named in known:
            argument = f"--{named}{equals}{value}"
        elif name.startswith("-") and positive != named and positive in known:
            argument = f"--no{positive}{equals}{value}"
        found.append(argument)
    return found


def _refused(said: str) -> str:
    """The sentence about a value, from absl's: flag --NAME=VALUE: REASON."""
    match = re.fullmatch(r"flag --(\w+)=(.*?): (.*)", said, re.DOTALL)
    return f"--{match[1]} is {match[2]}; {match[3]}" if match else said


def _take(flag_values: flags.FlagValues, name: str, rest: list[str]) -> list[str]:
    """Gives a flag the arguments that have no name; returns those that are left."""
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
    return _described(dataclasses.fields(settings_class))


def grouped(settings_classes: Sequence[type[Settings]]) -> str:
    """The flags of several classes for --help: required ones, then those of each class.

    A class that others derive from has a group of its own, before theirs.
    """
    fields = [field for each in settings_classes for field in dataclasses.fields(each)]
    groups = {"Required": [field for field in fields if field.metadata["missing"]]}
    for each in settings_classes:
        for cls in reversed(each.__mro__):
            heading = (cls.__doc__ or "").partition("\n")[0].rstrip(".")
            if heading.startswith(("A setting of", "Settings of")):
                heading = "Options"
            own = [
                field
                for field in dataclasses.fields(each)
                if field.name in vars(cls).get("__annotations__", {})
                and not field.metadata["missing"]
            ]
            groups.setdefault(heading, []).extend(own)
    shown = [f"{heading}:\n{_described(own)}" for heading, own in groups.items() if own]
    return "\n\n".join(shown)


def _described(fields: "Sequence[dataclasses.Field[Any]]") -> str:
    lines = []
    for field in fields:
        shown = "|".join(choices_of(field))
        default = shown_default(field)
        bracketed = f" [{default}]" if default else ""
        lines.append(f"  --{field.name}{'=' + shown if shown else ''}{bracketed}")
        lines += textwrap.wrap(
            field.metadata["help"],
            _WIDTH,
            initial_indent=_INDENT,
            subsequent_indent=_INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
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
            flags.DEFINE(_Choice(choices), field.name, default, text, flag_values=flag_values)
        elif kind is bool:
            flags.DEFINE_boolean(field.name, default, text, flag_values=flag_values)
            flag_values[field.name].parser = _TruthParser()
        elif kind is tuple:
            flags.DEFINE_multi_string(field.name, default, text, flag_values=flag_values)
        elif kind is int:
            flags.DEFINE(_CountParser(()), field.name, default, text, flag_values=flag_values)
        elif kind is float:
            flags.DEFINE(_NumberParser(), field.name, default, text, flag_values=flag_values)
        else:
            flags.DEFINE_string(field.name, default, text, flag_values=flag_values)
    return flag_values


class _CountParser(flags.ArgumentParser):
    """Takes a whole number, also as 1e3, or one of the words that stand for one."""

    def __init__(self, words: tuple[str, ...]):
        self._words = words

    def parse(self, argument: str | int) -> str | int:
        if argument in self._words:
            return argument
        with contextlib.suppress(ValueError):
            return int(argument)
        with contextlib.suppress(ValueError):
            number = float(argument)
            if number.is_integer():
                return int(number)
        raise ValueError(f"it must be {' or '.join(('a whole number', *self._words))}")

    def flag_type(self) -> str:
        return " or ".join(("int", *self._words))


class _NumberParser(flags.ArgumentParser):
    def parse(self, argument: str | float) -> float:
        try:
            return float(argument)
        except ValueError:
            raise ValueError("it must be a number") from None


class _TruthParser(flags.BooleanParser):
    def parse(self, argument: str | int) -> bool:
        try:
            found: bool = super().parse(argument)
            return found
        except ValueError:
            raise ValueError("it must be true or false") from None


class _Choice(flags.ArgumentParser):
    def __init__(self, choices: tuple[str, ...]):
        self._choices = choices

    def parse(self, argument: str) -> str:
        if argument in self._choices:
            return argument
        close = difflib.get_close_matches(argument, self._choices, 1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"it must be one of {', '.join(self._choices)}{meant}")


def _flag_type(annotation: Any) -> type:
    """int for `int` and for `int | None`; tuple for `tuple[str, ...]`."""
    if isinstance(annotation, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    return typing.get_origin(annotation) or annotation
