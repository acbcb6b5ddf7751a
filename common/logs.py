"""Logging: the subject of each line (run, step, worker, block), where lines go and how they look.

A thread sets its subject once, with `about` or `now_about`, and all lines that it logs then carry
it. Lines of libraries go to log files, never to a terminal. structlog is not used, because it would
replace only the subject and the JSON: kipper and its libraries log by absl and logging, and their
handlers and filters are most of this module.
"""

import collections
import contextlib
import contextvars
import datetime
import functools
import json
import logging
import os
import pathlib
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, TextIO, TypeVar

from absl import logging as absl_logging

from kipper.common.notices import DataWarning
from kipper.common.printable import printable, printable_json, printable_lines

KIPPER = str(pathlib.Path(__file__).resolve().parents[1]) + os.sep
_WARNINGS_REMEMBERED = 1000
_MINUTE, _WARNINGS_A_MINUTE = 60.0, 60

Subject = Mapping[str, Any]
_FIELDS = ("run", "node", "step", "worker", "block")  # in the order in which lines show them
_subject: contextvars.ContextVar[Subject] = contextvars.ContextVar(
    "subject", default=types.MappingProxyType({})
)
_until_exit = contextlib.ExitStack()  # never closed
_Result = TypeVar("_Result")


@contextlib.contextmanager
def about(**subject: Any) -> Iterator[None]:
    """Adds to the subject of this thread's lines while the block runs."""
    token = _subject.set({**_subject.get(), **subject})
    try:
        yield
    finally:
        _subject.reset(token)


def now_about(**subject: Any) -> None:
    """Adds to the subject of this thread's lines until the enclosing `about` ends."""
    _subject.set({**_subject.get(), **subject})


def subject() -> dict[str, Any]:
    """The subject of this thread's lines."""
    return dict(_subject.get())


def carried(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """`function`, with this thread's subject in whichever thread calls it."""
    held = _subject.get()

    def call(*arguments: object) -> _Result:
        with about(**held):
            return function(*arguments)

    return call


def quiet_native_libraries() -> None:
    """Hides the startup messages of TensorFlow, XLA and gRPC; call this before they are loaded.

    Variables that the user has set stay.
    """
    for name, value in (("TF_CPP_MIN_LOG_LEVEL", "3"), ("GRPC_VERBOSITY", "NONE")):
        os.environ.setdefault(name, value)


def start(log_format: str = "text") -> None:
    """Logs to stderr from INFO upwards until the process exits."""
    _until_exit.enter_context(to_stderr(log_format, logging.INFO))


@contextlib.contextmanager
def to_stderr(log_format: str = "text", level: int = logging.WARNING) -> Iterator[None]:
    """Logs to stderr from `level` upwards while the block runs.

    Includes notices about data. Includes warnings of libraries and of Python if `level` is below
    WARNING and stderr is not a terminal: then stderr is the process's log.
    """
    handler = _prepared(_Stderr(level), log_format)
    if level >= logging.WARNING or sys.stderr.isatty():
        handler.addFilter(_is_ours)
    showwarning = warnings.showwarning
    logging.captureWarnings(True)
    of_libraries = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, DataWarning):
            absl_logging.warning("%s", message)
        else:
            of_libraries(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    try:
        with _logging_to([handler]):
            yield
    finally:
        logging.captureWarnings(False)
        warnings.showwarning = showwarning


@contextlib.contextmanager
def to_file(path: pathlib.Path, run: str, log_format: str = "text") -> Iterator[None]:
    """Logs lines about a run or about none to a file, with warnings of libraries.

    Kipper's own warnings go to stderr too. The run becomes part of this thread's subject.
    """
    file = _prepared(_LogFile(path), log_format)
    file.filters.insert(0, lambda _record: _subject.get().get("run", run) == run)
    handlers = [file]
    on_stderr = [h for h in absl_logging.get_absl_logger().handlers if isinstance(h, _Stderr)]
    if not on_stderr:
        handlers.append(_prepared(_Stderr(logging.WARNING), log_format))
        handlers[-1].addFilter(_is_ours)
    levels = [handler.level for handler in on_stderr]
    for handler in on_stderr:
        handler.setLevel(max(handler.level, logging.WARNING))
    try:
        with about(run=run), _logging_to(handlers):
            yield
    finally:
        for handler, level in zip(on_stderr, levels, strict=True):
            handler.setLevel(level)


class _LogFile(logging.Handler):
    """A log without which a run goes on; never through a symbolic link."""

    def __init__(self, path: pathlib.Path):
        # Imported here: it imports numpy, for which the command line need not wait.
        from kipper.common.files import Dispensable, open_log

        super().__init__()
        self._writing, self._open = Dispensable(path), functools.partial(open_log, path)
        self._file: IO[str] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        with self._writing.attempt():
            self._file = self._file or self._open()
            self._file.write(self.format(record) + "\n")
            self._file.flush()

    def close(self) -> None:
        super().close()
        file, self._file = self._file, None
        with self._writing.attempt():
            if file is not None:
                file.close()


class _Stderr(logging.Handler):
    """Writes to the current `sys.stderr`, which a live line on a terminal replaces for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def _prepared(handler: logging.Handler, log_format: str) -> logging.Handler:
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    handler.addFilter(_is_worth_a_line)
    handler.addFilter(_Repeats())
    handler.addFilter(_Sparing())
    return handler


@contextlib.contextmanager
def _logging_to(handlers: list[logging.Handler]) -> Iterator[None]:
    """Sends what kipper and libraries log to `handlers`, instead of libraries' own on stderr."""
    absl, root = absl_logging.get_absl_logger(), logging.getLogger()
    taken = take_from_libraries()
    level, propagate = absl.level, absl.propagate
    for handler in handlers:
        absl.addHandler(handler)
        root.addHandler(handler)
    absl.setLevel(logging.INFO)
    absl.propagate = False
    try:
        yield
    finally:
        for handler in handlers:
            for repeats in [each for each in handler.filters if isinstance(each, _Repeats)]:
                for record in repeats.unwritten():
                    handler.emit(record)
            absl.removeHandler(handler)
            root.removeHandler(handler)
            handler.close()
        absl.setLevel(level)
        absl.propagate = propagate
        for logger, theirs in taken:
            logger.addHandler(theirs)


def take_from_libraries() -> list[tuple[logging.Logger, logging.Handler]]:
    """Removes libraries' handlers for stderr; returns them with their loggers.

    Call this again after a late import of a library.
    """
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    taken = [
        (logger, handler)
        for logger in known
        if isinstance(logger, logging.Logger)
        for handler in logger.handlers
        if type(handler).__name__ == "ABSLHandler"  # wraps the handler with the stream
        or getattr(handler, "stream", None) in (sys.stderr, sys.__stderr__)
    ]
    for logger, handler in taken:
        logger.removeHandler(handler)
    return taken


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether kipper logged the record (by absl), or it is a warning."""
    return record.name == "absl" or record.levelno >= logging.WARNING


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == "absl" and record.pathname.startswith(KIPPER)


class _Repeats(logging.Filter):
    """Lets a repeated warning pass the 1st, 10th, 100th, … time."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: collections.OrderedDict[
            tuple[object, ...], tuple[int, logging.LogRecord | None]
        ] = collections.OrderedDict()  # the count, and the last record if it was not written

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        key = record.pathname, record.lineno, record.getMessage(), _subject.get().get("worker")
        count = self._seen.pop(key, (0, None))[0] + 1
        record.times = count
        _subject_of(record)  # as it is now: the record may be written later
        passes = str(count).strip("0") == "1"
        self._seen[key] = count, None if passes else record
        if len(self._seen) > _WARNINGS_REMEMBERED:
            self._seen.popitem(last=False)
        return passes

    def unwritten(self) -> list[logging.LogRecord]:
        """The last record of each warning that came again after it was last written."""
        return [record for _, record in self._seen.values() if record is not None]


class _Sparing(logging.Filter):
    """Lets at most so many warnings of one line of code pass in a minute.

    Strangers on the network can cause warnings with ever new words, which must not fill the disk.
    """

    def __init__(self) -> None:
        super().__init__()
        self._minutes: dict[tuple[str, int], tuple[float, int]] = {}  # its begin, and the count

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        now, place = time.monotonic(), (record.pathname, record.lineno)
        begun, count = self._minutes.get(place, (now, 0))
        if now - begun >= _MINUTE:
            record.left_out = max(0, count - _WARNINGS_A_MINUTE)
            begun, count = now, 0
        self._minutes[place] = begun, count + 1
        return count < _WARNINGS_A_MINUTE


def _message(record: logging.LogRecord) -> str:
    times, left_out = getattr(record, "times", 1), getattr(record, "left_out", 0)
    return (
        record.getMessage()
        + (f" (said {times} times)" if times > 1 else "")
        + (f" (after {left_out} more like it)" if left_out else "")
    )


def _subject_of(record: logging.LogRecord) -> Subject:
    """The subject when the record was first seen, in the order of `_FIELDS`."""
    held = _subject.get()
    now = {name: held[name] for name in _FIELDS if name in held}
    found: Subject = vars(record).setdefault("subject", now)
    return found


class _Text(logging.Formatter):
    """`2026-11-22 20:41:08 INFO run=c1 step=12 worker=worker-0 block=345 …`, in local time.

    No content of a message can begin another line or have an effect on a terminal.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(line)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        subject = "".join(f"{name}={value} " for name, value in _subject_of(record).items())
        # Libraries' warnings have several lines.
        shown = printable if record.name == "absl" else printable_lines
        record.line = shown(subject + _message(record))
        record.exc_text = None  # that of another formatter
        return super().format(record)

    def formatException(self, ei: Any) -> str:
        return "    " + printable_lines(super().formatException(ei))


class _Json(logging.Formatter):
    """One object per line: time (UTC), level, subject, message, source and exception."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        line = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            **_subject_of(record),
            "message": _message(record),
            "source": f"{record.pathname.removeprefix(KIPPER)}:{record.lineno}",
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return printable_json(json.dumps(line, ensure_ascii=False, default=str))
