"""Fields of settings classes, and checks that several of them make."""

import dataclasses
from typing import Any

from kipper.common.errors import UserError
from kipper.common.logs import FORMATS

TRANSPORTS = ("courier", "grpc_tls")


def setting(
    default: Any, text: str, choices: tuple[str, ...] | None = None, free: bool = False
) -> Any:
    """A field of a settings class.

    Args:
        default: None for "not given".
        text: what the flag's help says.
        choices: the values admitted, if they can be listed.
        free: whether a resumed run may change it, because no bit of the result depends on it.
    """
    return dataclasses.field(
        default=default, metadata={"help": text, "choices": choices, "free": free}
    )


def transport_setting() -> Any:
    """The field `transport`, which runs and workers have alike."""
    return setting(
        "courier",
        "How coordinator and workers talk: Courier, on closed networks only, or gRPC with mutual "
        "TLS.",
        TRANSPORTS,
        free=True,
    )


def open_network_setting() -> Any:
    """The field `allow_open_network`, likewise."""
    text = "Let Courier listen on a public network; a firewall must close the port."
    return setting(False, text, free=True)


def certificates_setting() -> Any:
    """The field `certificates`, likewise."""
    return setting(None, "Folder made by kipper certificates, for grpc_tls.", free=True)


def log_format_setting() -> Any:
    """The field `log_format`, likewise."""
    text = "How logs are written: lines to read, or a JSON object a line."
    return setting("text", text, FORMATS, free=True)


def check_choices(settings: Any) -> None:
    """Raises a UserError for a field whose value is not among its choices."""
    for field in dataclasses.fields(settings):
        value, choices = getattr(settings, field.name), field.metadata.get("choices")
        if choices and value not in choices:
            raise UserError(f"--{field.name} is {value!r}; it must be one of {', '.join(choices)}.")


def check_at_least(settings: Any, least: int, names: tuple[str, ...]) -> None:
    """Raises a UserError for a field that is given and smaller than `least`."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < least:
            raise UserError(f"--{name} is {value}; it must be {least} or more.")


def arguments_of(settings: Any) -> list[str]:
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
