"""Threads on which servers' calls run: as many as there are calls, none that an exit waits for."""

import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import Any

Future = concurrent.futures.Future
_Work = tuple["Future[Any]", Callable[..., Any], tuple, dict[str, Any]]


class DaemonThreads(concurrent.futures.Executor):
    """A pool that grows as needed.

    The standard pool's threads are joined at exit, so a block that takes an hour would hold the
    process up for so long. And Courier's own threads must not run Python when the process ends:
    they abort it.
    """

    def __init__(self, name: str):
        self._name = name
        self._work: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Runs `fn` at once, on a thread that is idle or new."""
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
        # In a function of its own, so that an idle thread holds nothing of its last call.
        try:
            result = fn(*args, **kwargs)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
