"""What kipper has on the running version of Python, and what replaces the rest.

Launchpad, which brings Courier and Reverb, has no release for Python 3.11 and later, and
neural-tangents has none for the JAX of those.
"""

import importlib.util
import platform
import sys

from kipper.common.errors import UserError

_OLDEST, _NEWEST = (3, 10), (3, 13)
# Ends a sentence about a part that a plain installation leaves out.
INSTALL_SERVICE = "pip install 'kipper[service]' brings it"
_INSTALL_NEURAL_TANGENTS = "pip install 'kipper[neural-tangents]' brings it"


def is_supported() -> bool:
    """Whether kipper runs on this Python."""
    return _OLDEST <= sys.version_info[:2] <= _NEWEST


def is_installed(module: str) -> bool:
    """Whether the module can be imported; it is not imported."""
    return importlib.util.find_spec(module) is not None


def check_launchpad(what: str, instead: str) -> None:
    """Checks that Launchpad is installed.

    Args:
        what: the beginning of the sentence: what needs Launchpad.
        instead: what to do without it, as in "give --launch=inprocess".

    Raises:
        UserError: Launchpad is not installed.
    """
    if not is_installed("launchpad"):
        why = _why_not("Python 3.10", INSTALL_SERVICE)
        raise UserError(f"{what} needs Launchpad, which {why}; {instead}.")


def lacking_neural_tangents() -> str | None:
    """Why neural-tangents is not installed, as the end of a sentence; None if it is."""
    return (
        None
        if is_installed("neural_tangents")
        else _why_not("the JAX that kipper has on Python 3.10", _INSTALL_NEURAL_TANGENTS)
    )


def _why_not(fits: str, remedy: str) -> str:
    if sys.version_info[:2] == _OLDEST:
        return f"is not installed: {remedy}"
    return f"is not installed: its last release is for {fits}"


def described() -> str:
    """This Python's version, and what it lacks."""
    lacks = []
    if not is_installed("launchpad"):
        lacks.append(
            "Launchpad (instead of --launch=local_mp give --launch=ray, instead of "
            "--transport=courier give --transport=grpc_tls)"
        )
    if not is_installed("ray"):
        lacks.append(f"Ray ({INSTALL_SERVICE})")
    if not is_installed("neural_tangents"):
        lacks.append("--engine=neural_tangents")
    *others, last = lacks or [""]
    parts = " and ".join([", ".join(others), last] if others else [last])
    return f"{platform.python_version()}: all of kipper" + (f" except {parts}" if lacks else "")


if __name__ == "__main__":
    print(f"Python {described()}.")
