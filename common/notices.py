"""Sentences for the user about data that kipper does not take literally."""

import sys
import warnings


class DataWarning(UserWarning):
    """Data may not be used in the way that the user expects, or were changed to be usable."""


def notice(sentence: str) -> None:
    """Warns the user, at the line of theirs that called kipper."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_ours(str(frame.f_globals.get("__name__", ""))):
        level, frame = level + 1, frame.f_back
    warnings.warn(sentence, DataWarning, stacklevel=level)


def _is_ours(module: str) -> bool:
    """Whether kipper, or a context manager within it, is running there."""
    return module.partition(".")[0] in ("kipper", "contextlib")
