"""Fields of settings classes: help texts, choices and required values; the checks they share."""

import dataclasses
import os
import re
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from kipper.common.errors import UserError

# Architectures are separated by commas.
_HOME = re.compile(r"(^|^npz:|^folder:|^hosts:|,\s*)(~[^/,]*)(?=/|$)")

Kernel = Literal["ntk", "nngp"]
KernelDtype = Literal["float32", "float64"]
Preprocess = Literal["standard", "zca"]
TransportName = Literal["courier", "grpc_tls"]
LogFormat = Literal["text", "json"]


def setting(
    default: Any,
    text: str,
    choices: tuple[str, ...] | None = None,
    free: bool = False,
    elsewhere: bool = False,
) -> Any:
    """An optional field of a settings class.

    Args:
        default: its value if the user gives none.
        text: the help text of its flag.
        choices: the values that it may take, where a `Literal` type cannot list them.
        free: whether a resumed run may change it although it decides what is computed.
        elsewhere: whether it is a path or a command of another host.
    """
    metadata = {
        "help": text,
        "choices": choices,
        "free": free,
        "elsewhere": elsewhere,
        "missing": None,
    }
    return dataclasses.field(default=default, metadata=metadata)


def required(text: str, missing: str = "--{name} is required.") -> Any:
    """A field that the user must give; `missing` is the error message if it is not given."""
    metadata = {
        "help": text,
        "choices": None,
        "free": False,
        "elsewhere": False,
        "missing": missing,
    }
    return dataclasses.field(metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings classes.

    `~` and `~NAME` at the beginning of a path stand for a home folder, also after npz:, folder: and
    hosts:, on the command line and in Python. A path on another host is kept as it is.
    """

    # What each value of the setting `recipe` stands for, in classes that have it.
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata["elsewhere"]:
                continue
            if isinstance(value, str):
                object.__setattr__(self, field.name, _at_home(value))
            elif isinstance(value, tuple):
                object.__setattr__(self, field.name, tuple(map(_at_home, value)))

    def check(self) -> None:
        """Refuses values that are wrong whatever the data set, the machine or the cluster.

        Raises:
            UserError: one sentence with the flag, its value and what it must be.
        """
        check_required(type(self), vars(self))
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), choices_of(field)
            may_be_left_out = type(None) in typing.get_args(field.type)
            if choices and value not in choices and not (value is None and may_be_left_out):
                known = ", ".join(choices)
                raise UserError(f"--{field.name} is {value!r}; it must be one of {known}.")

    @classmethod
    def expansion(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The values that the recipe in `given`, or else the default recipe, stands for."""
        return cls.recipes.get(given.get("recipe", getattr(cls, "recipe", "")), {})

    def check_at_least(self, least: int, *names: str) -> None:
        """Raises a UserError for a field that is given and smaller than `least`."""
        for name in names:
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} is {value}; it must be {least} or more.")

    def check_port(self, port: int | None, least: int) -> None:
        """Raises a UserError for a port that is given and not one from `least` on."""
        if port is not None and not least <= port < 2**16:
            raise UserError(f"--port is {port}; it must be from {least} to {2**16 - 1}.")


def _at_home(text: str) -> str:
    """The text with the home folders that its paths begin with."""
    return _HOME.sub(lambda match: match[1] + os.path.expanduser(match[2]), text)


def unset_words(field: "dataclasses.Field[Any]") -> str:
    """What no value means: the words after "by default" in the help text, else "none"."""
    found = re.search(r"\b[Bb]y default,? (.+?)[;.]", field.metadata["help"] + ".")
    return found[1].removeprefix("at ") if found else "none"


def choices_of(field: "dataclasses.Field[Any]") -> tuple[str, ...]:
    """The values that a field may take; empty if it takes any value of its type.

    A field that may have a word instead of a number takes other numbers too.
    """
    if words_for_counts(field):
        return ()
    types = (field.type, *typing.get_args(field.type))
    listed = (typing.get_args(each) for each in types if typing.get_origin(each) is Literal)
    return field.metadata["choices"] or next(listed, ())


def words_for_counts(field: "dataclasses.Field[Any]") -> tuple[str, ...]:
    """The words that a field may have instead of a number; empty if it is of another type."""
    kinds = typing.get_args(field.type)
    literals = [typing.get_args(each) for each in kinds if typing.get_origin(each) is Literal]
    return literals[0] if int in kinds and literals else ()


def check_required(settings_class: type[Settings], values: Mapping[str, object]) -> None:
    """Raises a UserError for a required field that has no value or an empty one."""
    for field in dataclasses.fields(settings_class):
        if field.metadata["missing"] and not values[field.name]:
            raise UserError(field.metadata["missing"].format(name=field.name))


def departures(settings_class: type[Settings], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that differ from their default and from what their recipe stands for."""
    defaults = {field.name: field.default for field in dataclasses.fields(settings_class)}
    defaults |= settings_class.expansion(values)
    known = ((name, values[name], defaults[name]) for name in defaults if name in values)
    return {name: value for name, value, default in known if value != default}


def arguments_of(settings: Settings) -> list[str]:
    """The command-line arguments that give these settings; defaults are left out."""
    arguments = []
    for name, value in departures(type(settings), vars(settings)).items():
        if isinstance(value, bool):
            arguments.append(f"--{'' if value else 'no'}{name}")
        elif isinstance(value, tuple):
            arguments += [f"--{name}={each}" for each in value]
        else:
            arguments.append(f"--{name}={value}")
    return arguments


def transport_setting() -> Any:
    """The field `transport` of runs and workers."""
    return setting(
        "courier",
        "Protocol between coordinator and workers: Courier, for closed networks only, or gRPC with "
        "mutual TLS.",
    )


def open_network_setting() -> Any:
    """The field `allow_open_network` of runs and workers."""
    text = "Let Courier listen on a public network; a firewall must protect the port."
    return setting(False, text)


def certificates_setting() -> Any:
    """The field `certificates` of runs and workers."""
    return setting(None, "Folder made by kipper certificates, for --transport=grpc_tls.")


def log_format_setting() -> Any:
    """The field `log_format` of runs and workers."""
    return setting("text", "Format of logs: lines of text, or one JSON object a line.")
