"""Whether this process has been asked to stop, and how urgently."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# What the terminal is told at the first request.
STOPPING = "Stopping after the step, or the targets, under way; Ctrl-C again stops at once."

_POLL_SECONDS = 0.1


class StopRequest:
    """Asked once: finish what is begun, then stop. Asked twice: stop at once.

    A number without a lock: signal handlers run between any two instructions of the main thread,
    also while it holds one.
    """

    def __init__(self) -> None:
        self._times = 0

    def ask(self) -> int:
        """Asks once more; returns how often it has been asked now."""
        self._times += 1
        return self._times

    def ask_at_once(self) -> None:
        """Asks as urgently as can be."""
        self._times = max(self._times, 2)

    def is_asked(self) -> bool:
        """Whether to stop after what is begun."""
        return self._times >= 1

    def is_urgent(self) -> bool:
        """Whether to stop at once."""
        return self._times >= 2

    def wait(self, seconds: float) -> bool:
        """Returns when asked, or after `seconds`; says whether it was asked."""
        return self._wait_until(self.is_asked, seconds)

    def wait_until_urgent(self, seconds: float) -> bool:
        """Returns when asked twice, or after `seconds`; says whether it was."""
        return self._wait_until(self.is_urgent, seconds)

    def _wait_until(self, come: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not come() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_SECONDS))
        return come()

    @contextlib.contextmanager
    def asked_by_signals(
        self,
        on_signal: Callable[[int], None] | None = None,
        signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
    ) -> Iterator[None]:
        """While the block runs, Ctrl-C and SIGTERM ask instead of what they did before.

        Only the main thread can listen to signals; in any other nothing changes.

        Args:
            on_signal: called by the handler with how often it has been asked; must not block.
            signals: which of them.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handler(_number: int, _frame: Any) -> None:
            times = self.ask()
            if on_signal is not None:
                on_signal(times)

        before = {number: signal.signal(number, handler) for number in signals}
        try:
            yield
        finally:
            for number, previous in before.items():
                signal.signal(number, previous)
