"""The token that the live page asks for, unless only this machine can reach it."""

import hmac
import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Iterable

from kipper.common.errors import UserError
from kipper.common.settings import ExecutionSettings

VARIABLE = "KIPPER_DASHBOARD_TOKEN"
_FORM = re.compile(r"[A-Za-z0-9_-]{16,256}", re.ASCII)


def check_token(settings: ExecutionSettings) -> None:
    """Raises `UserError` if the token that the environment names cannot be used."""
    given = os.environ.get(VARIABLE)
    if not given:
        return
    if settings.dashboard_open:
        raise UserError(
            f"--dashboard_open serves the page without a token, but {VARIABLE} is set; give one "
            "of them."
        )
    if not _FORM.fullmatch(given):
        raise UserError(
            f"{VARIABLE} has {len(given)} characters; it must have 16 to 256 of A-Z, a-z, 0-9, _ "
            "and -."
        )


def token_for(settings: ExecutionSettings, listener: socket.socket) -> str | None:
    """The token that requests to the listener's address must have; None if they need none.

    It is that of the environment, or a new one if other machines may reach the address.
    """
    check_token(settings)
    given = os.environ.get(VARIABLE)
    if given:
        return given
    if settings.dashboard_open or ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        return None
    return secrets.token_urlsafe(24)


def admits(token: str, offered: Iterable[str | None]) -> bool:
    """Whether one of the texts is the token; compares them in constant time."""
    wanted = token.encode()
    return any(hmac.compare_digest(wanted, text.encode()) for text in offered if text)
