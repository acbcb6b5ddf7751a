"""Daemon threads for the calls of servers, one for each concurrent call."""

import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import Any

Future = concurrent.futures.Future
_Work = tuple["Future[Any]", Callable[..., Any], tuple, dict[str, Any]]


class DaemonThreads(concurrent.futures.Executor):
    """A pool that grows as needed.

    The threads of the standard pool are joined at exit, so a long block would delay the exit. And
    Courier's own threads abort the process if they run Python while it exits.
    """

    def __init__(self, name: str):
        self._name = name
        self._work: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Runs `fn` at once, on an idle or a new thread."""
        future: Future[Any] = Future()
        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        self._work.put((future, fn, args, kwargs))
        return future

    def _run(self) -> None:
        while True:
            self._perform(*self._work.get())
            self._idle.release()

    @staticmethod
    def _perform(
        future: "Future[Any]", fn: Callable[..., Any], args: tuple, kwargs: dict[str, Any]
    ) -> None:
        # A separate function, so that an idle thread keeps no references to its last call.
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
