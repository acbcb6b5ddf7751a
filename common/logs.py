"""What is logged: where it goes, how a line looks, and what it is about.

A line says which run, step, worker and block it concerns. None of that is passed along: whoever
begins a step or takes up a block says so once, by `about` or `now_about`, and every line that the
same thread logs meanwhile carries it. Libraries write into files of lines, never on a terminal.
"""

import collections
import contextlib
import contextvars
import datetime
import json
import logging
import os
import pathlib
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from absl import logging as absl_logging

FORMATS = ("text", "json")

# What lines may be about, in the order in which they say it.
_SUBJECTS = ("run", "node", "step", "worker", "block")
_subject: contextvars.ContextVar[Mapping[str, Any]] = contextvars.ContextVar(
    "subject", default=types.MappingProxyType({})
)

KIPPER = str(pathlib.Path(__file__).resolve().parents[1]) + os.sep
_WARNINGS_REMEMBERED = 1000

_for_good = contextlib.ExitStack()  # never left

_Result = TypeVar("_Result")


# --- what lines are about ------------------------------------------------------------------------


class about:
    """Lines of this thread are about `subject` too, while the block runs: run, step, worker…

    No generator, because every block of every step enters one.
    """

    __slots__ = ("_more", "_token")

    def __init__(self, **subject: Any):
        self._more = subject

    def __enter__(self) -> None:
        self._token = _subject.set({**_subject.get(), **self._more})

    def __exit__(self, *_raised: object) -> None:
        _subject.reset(self._token)


def now_about(**subject: Any) -> None:
    """The same from now on, until the `about` that this is called in is over."""
    _subject.set({**_subject.get(), **subject})


def subject() -> dict[str, Any]:
    """What this thread's lines are about now."""
    return dict(_subject.get())


def carried(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """`function`, with lines about what this thread's are about now, whichever thread calls it."""
    held = _subject.get()

    def call(*arguments: Any) -> _Result:
        with about(**held):
            return function(*arguments)

    return call


# --- where lines go ------------------------------------------------------------------------------


def quiet_native_libraries() -> None:
    """Has the native libraries of TensorFlow, XLA and gRPC start without a word.

    They read these variables when they are loaded; one that the user has set stays.
    """
    for name, value in (("TF_CPP_MIN_LOG_LEVEL", "3"), ("GRPC_VERBOSITY", "NONE")):
        os.environ.setdefault(name, value)


def start(log_format: str = "text") -> None:
    """From now on, stderr takes what this process and its libraries log, from INFO upwards.

    For a process whose stderr is its log. Where it is a terminal, libraries are left out.
    """
    _for_good.enter_context(to_stderr(log_format, logging.INFO))


@contextlib.contextmanager
def to_stderr(log_format: str = "text", level: int = logging.WARNING) -> Iterator[None]:
    """Stderr takes what is logged, from `level` upwards, while the block runs.

    Of libraries it takes warnings, Python's among them, if `level` is below those and nobody sits
    before it.
    """
    handler = _Stderr(level, log_format)
    is_a_log = level < logging.WARNING and not sys.stderr.isatty()
    if not is_a_log:
        handler.addFilter(_is_ours)
    showwarning = warnings.showwarning
    logging.captureWarnings(True)
    try:
        with _logging_to([handler]):
            yield
    finally:
        logging.captureWarnings(False)
        warnings.showwarning = showwarning


@contextlib.contextmanager
def to_file(path: pathlib.Path, run: str, log_format: str = "text") -> Iterator[None]:
    """A file takes what is logged about a run, or about none, and what libraries warn of.

    Kipper's own warnings go to stderr as well. Lines of this thread are about the run meanwhile.
    """
    file = logging.FileHandler(path, delay=True)
    file.setFormatter(_formatter(log_format))
    file.addFilter(lambda _record: _subject.get().get("run", run) == run)
    file.addFilter(_is_worth_a_line)
    file.addFilter(_Repeats())
    handlers: list[logging.Handler] = [file]
    there = [each for each in absl_logging.get_absl_logger().handlers if isinstance(each, _Stderr)]
    if not there:
        handlers.append(_Stderr(logging.WARNING, log_format))
        handlers[-1].addFilter(_is_ours)
    levels = [handler.level for handler in there]
    for handler in there:
        handler.setLevel(max(handler.level, logging.WARNING))
    try:
        with about(run=run), _logging_to(handlers):
            yield
    finally:
        for handler, level in zip(there, levels, strict=True):
            handler.setLevel(level)


class _Stderr(logging.Handler):
    """To what stderr is at that moment: a live line on the terminal takes its place for a while."""

    def __init__(self, level: int, log_format: str):
        super().__init__(level)
        self.setFormatter(_formatter(log_format))
        self.addFilter(_is_worth_a_line)
        self.addFilter(_Repeats())

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


@contextlib.contextmanager
def _logging_to(handlers: list[logging.Handler]) -> Iterator[None]:
    """What absl logs, which is what kipper does, and what else libraries log goes to `handlers`.

    Libraries do without the handlers for stderr that they brought meanwhile.
    """
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
            _conclude(handler)
            absl.removeHandler(handler)
            root.removeHandler(handler)
            handler.close()
        absl.setLevel(level)
        absl.propagate = propagate
        for logger, theirs in taken:
            logger.addHandler(theirs)


def take_from_libraries() -> list[tuple[logging.Logger, logging.Handler]]:
    """Takes out the handlers for stderr that libraries brought; returns them with their loggers.

    To be called again where one is imported late.
    """
    taken = [(logger, handler) for logger in _loggers() for handler in _those_for_stderr(logger)]
    for logger, handler in taken:
        logger.removeHandler(handler)
    return taken


def _loggers() -> list[logging.Logger]:
    known = list(logging.root.manager.loggerDict.values())
    return [logging.root, *(logger for logger in known if isinstance(logger, logging.Logger))]


def _those_for_stderr(logger: logging.Logger) -> list[logging.Handler]:
    streams = (sys.stderr, sys.__stderr__)
    return [
        handler
        for handler in logger.handlers
        if type(handler).__name__ == "ABSLHandler"  # holds the one that has the stream
        or (isinstance(handler, logging.StreamHandler) and handler.stream in streams)
    ]


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Of other libraries than absl, which kipper logs by, only warnings are."""
    return record.name == "absl" or record.levelno >= logging.WARNING


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == "absl" and record.pathname.startswith(KIPPER)


# --- how often the same is said ------------------------------------------------------------------


class _Repeats(logging.Filter):
    """Lets a warning pass when it comes first, and then each time its number has grown tenfold."""

    def __init__(self) -> None:
        super().__init__()
        self._came: collections.OrderedDict[tuple[Any, ...], int] = collections.OrderedDict()
        self._last: dict[tuple[Any, ...], logging.LogRecord] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        what = (record.pathname, record.lineno, record.getMessage(), _subject.get().get("worker"))
        times = self._came.pop(what, 0) + 1
        self._came[what] = times
        if len(self._came) > _WARNINGS_REMEMBERED:
            self._last.pop(self._came.popitem(last=False)[0], None)
        record.times = times
        if times > 1:
            _subject_of(record)  # as it is now, for it may be written later
            self._last[what] = record
        if str(times).strip("0") != "1":
            return False
        self._last.pop(what, None)  # it has just been said how often
        return True

    def unsaid(self) -> list[logging.LogRecord]:
        """The last of each warning that has come more often than was said."""
        return list(self._last.values())


def _conclude(handler: logging.Handler) -> None:
    """Says how often warnings came that were not written each time."""
    for repeats in [each for each in handler.filters if isinstance(each, _Repeats)]:
        for record in repeats.unsaid():
            handler.emit(record)


# --- how a line looks ----------------------------------------------------------------------------


def _formatter(log_format: str) -> logging.Formatter:
    return _Json() if log_format == "json" else _Text()


def _message(record: logging.LogRecord) -> str:
    times = getattr(record, "times", 1)
    return record.getMessage() + (f" (said {times} times)" if times > 1 else "")


def _subject_of(record: logging.LogRecord) -> dict[str, Any]:
    """In a fixed order; of a warning that is said at the end, what it was about when it came."""
    held = _subject.get()
    now = {name: held[name] for name in _SUBJECTS if name in held}
    about: dict[str, Any] = vars(record).setdefault("subject", now)
    return about


class _Text(logging.Formatter):
    """`2026-11-22 20:41:08 INFO run=c1 step=12 worker=worker-0 block=345 …`, in local time."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(about)s%(said)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        record.about = "".join(f"{name}={value} " for name, value in _subject_of(record).items())
        record.said = _message(record)
        return super().format(record)


class _Json(logging.Formatter):
    """An object a line: time (UTC), level, what it is about, message, where it was logged."""

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
        return json.dumps(line, ensure_ascii=False, default=str)
