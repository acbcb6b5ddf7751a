"""Writes to the user's terminal, and redirects the output of libraries to a log."""

import atexit
import contextlib
import errno
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import TextIO

from kipper.launch.processes.streams import LossyText, is_stderr

_STDERR = 2
_terminal = _STDERR


def tell_terminal(sentence: str) -> None:
    """Writes a line to stderr without Python's buffers, so that signal handlers may call it."""
    # A progress line is there, and the ^C that the terminal echoes.
    begin = "\r\x1b[K" if os.isatty(_terminal) else ""
    with contextlib.suppress(OSError):
        os.write(_terminal, f"{begin}kipper: {sentence}\n".encode())


@contextlib.contextmanager
def libraries_write_to(log: TextIO) -> Iterator[None]:
    """Redirects the output of libraries to `log`, including what C++ writes to descriptor 2.

    Python's stderr and `tell_terminal` still write where stderr led before. The log also takes what
    libraries write while the process exits.
    """
    global _terminal
    atexit.register(_lead_stderr_to, pathlib.Path(log.name))
    sys.stderr.flush()
    before = os.dup(_STDERR)
    os.dup2(log.fileno(), _STDERR)
    _terminal = before
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, before)
        stack.callback(_give_back, before)
        stack.enter_context(contextlib.redirect_stdout(log))
        # Otherwise a live line on the terminal, or a test, has replaced it.
        if is_stderr(sys.stderr):
            stream = LossyText.to(before, "wb", {errno.EPIPE}, sys.stderr.encoding)
            stack.enter_context(stream)
            stack.enter_context(contextlib.redirect_stderr(stream))
        yield


def _lead_stderr_to(path: pathlib.Path) -> None:
    with contextlib.suppress(OSError), open(path, "a") as log:
        os.dup2(log.fileno(), _STDERR)


def _give_back(before: int) -> None:
    global _terminal
    _terminal = _STDERR
    os.dup2(before, _STDERR)
