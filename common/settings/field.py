"""Fields of settings classes: help texts, choices and required values; the checks they share."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, Literal

from kipper.common.errors import UserError

Kernel = Literal["ntk", "nngp"]
KernelDtype = Literal["float32", "float64"]
Preprocess = Literal["standard", "zca"]
TransportName = Literal["courier", "grpc_tls"]
LogFormat = Literal["text", "json"]


def setting(
    default: Any, text: str, choices: tuple[str, ...] | None = None, free: bool = False
) -> Any:
    """An optional field of a settings class.

    Args:
        default: its value if the user gives none.
        text: the help text of its flag.
        choices: the values that it may take, where a `Literal` type cannot list them.
        free: whether a resumed run may change it although it decides what is computed.
    """
    metadata = {"help": text, "choices": choices, "free": free, "missing": None}
    return dataclasses.field(default=default, metadata=metadata)


def required(text: str, missing: str = "--{name} is required.") -> Any:
    """A field that the user must give; `missing` is the error message if it is not given."""
    metadata = {"help": text, "choices": None, "free": False, "missing": missing}
    return dataclasses.field(metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings classes."""

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

    def check_at_least(self, least: int, *names: str) -> None:
        """Raises a UserError for a field that is given and smaller than `least`."""
        for name in names:
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} is {value}; it must be {least} or more.")


def choices_of(field: "dataclasses.Field[Any]") -> tuple[str, ...]:
    """The values that a field may take; empty if any value of its type will do.

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


def arguments_of(settings: Settings) -> list[str]:
    """The command-line arguments that give these settings; defaults are left out."""
    arguments = []
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value == field.default:
            continue
        if isinstance(value, bool):
            arguments.append(f"--{'' if value else 'no'}{field.name}")
        elif isinstance(value, tuple):
            arguments += [f"--{field.name}={each}" for each in value]
        else:
            arguments.append(f"--{field.name}={value}")
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
