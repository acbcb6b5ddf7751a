"""Standard output and error that survive a missing reader and any encoding."""

import codecs
import contextlib
import errno
import io
import os
import pathlib
import sys
from collections.abc import Collection, Iterator
from typing import IO, Literal, TextIO

# What kipper writes that ASCII lacks.
_IN_ASCII = {"…": "...", "²": "^2", "–": "-", "×": "x", "→": "->", "·": "-"}
_ERRORS = "kipper_plain"
_STDERR = 2


def _plain(error: UnicodeError) -> tuple[str, int]:
    """A handler of codecs: similar characters for those that an encoding lacks, else escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(each, ascii(each)[1:-1]) for each in lacking), error.end


codecs.register_error(_ERRORS, _plain)


class LossyText(io.TextIOWrapper):
    """Text for a file or pipe; once a write fails for one of `reasons`, the rest is dropped.

    Characters that the encoding lacks are written as similar ones, or as escapes.

    Args:
        buffer: its descriptor is redirected to the null device when writing fails.
        reasons: error numbers; other errors are raised.
        encoding: as for `open`.
    """

    def __init__(self, buffer: IO[bytes], reasons: Collection[int], encoding: str | None = None):
        super().__init__(buffer, encoding, errors=_ERRORS, line_buffering=True)
        self._reasons = reasons

    def write(self, text: str) -> int:
        with self._dropping():
            super().write(text)
        return len(text)

    @classmethod
    def to(
        cls,
        path: pathlib.Path | int,
        mode: Literal["ab", "wb"],
        reasons: Collection[int],
        encoding: str,
    ) -> "LossyText":
        """Text for a file, or for an open descriptor that stays open."""
        return cls(open(path, mode, closefd=not isinstance(path, int)), reasons, encoding)

    def flush(self) -> None:
        with self._dropping():
            super().flush()

    def close(self) -> None:
        with self._dropping():
            super().close()

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in self._reasons:
                raise
            # The content of the buffer must go somewhere, or each write tries it again.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            super().flush()


def protect_output() -> None:
    """Replaces this process's standard output and error by ones that work without a reader.

    If nobody reads a command's output any more, as in `kipper list | head -1`, the command still
    does its work and ends with its own status.
    """
    # None where the descriptor is closed; something else in a test.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = _protected(sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _protected(sys.stderr)


def is_stderr(stream: TextIO) -> bool:
    """Whether a stream is this process's own standard error, protected or not."""
    return stream is sys.__stderr__ or (
        isinstance(stream, LossyText) and stream.fileno() == _STDERR
    )


def _protected(stream: TextIO) -> LossyText:
    # EIO: the terminal is gone.
    reasons = {errno.EPIPE, errno.EIO}
    found = LossyText.to(stream.fileno(), "wb", reasons, stream.encoding)
    found.reconfigure(line_buffering=stream.fileno() == _STDERR or stream.isatty())
    return found
