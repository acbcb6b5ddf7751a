"""The user's terminal, while libraries that write to it by themselves are kept away from it."""

import atexit
import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import TextIO

_STDERR = 2
_terminal = _STDERR


def tell_terminal(sentence: str) -> None:
    """Writes a line to stderr, as a signal handler may: past Python's buffers."""
    with contextlib.suppress(OSError):
        os.write(_terminal, f"kipper: {sentence}\n".encode())


@contextlib.contextmanager
def libraries_write_to(log: TextIO) -> Iterator[None]:
    """What libraries print goes to `log`, also what C++ writes to stderr's own descriptor.

    What Python writes to stderr, and `tell_terminal`, goes on to where stderr led before. When the
    process ends, the log takes the libraries' last words too.
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
        # Else a live line on the terminal, or a test, has taken its place and writes elsewhere.
        if sys.stderr is sys.__stderr__:
            stream = stack.enter_context(open(before, "w", buffering=1, closefd=False))
            stack.enter_context(contextlib.redirect_stderr(stream))
        yield


def _lead_stderr_to(path: pathlib.Path) -> None:
    with contextlib.suppress(OSError), open(path, "a") as log:
        os.dup2(log.fileno(), _STDERR)


def _give_back(before: int) -> None:
    global _terminal
    _terminal = _STDERR
    os.dup2(before, _STDERR)
