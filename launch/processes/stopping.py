"""A request to stop: whether it was made, and how urgent it is."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence

# Printed on the terminal at the first request.
STOPPING = "Stopping after the current step or block of targets; Ctrl-C again stops at once."

_POLL_SECONDS = 0.1


class StopRequest:
    """Asked once: finish the work in progress, then stop. Asked twice: stop at once.

    The count has no lock: signal handlers run between any two instructions of the main thread,
    even while that thread holds a lock.

    Args:
        parents: requests that this one follows: it is asked, or urgent, whenever one of them is.
        at_once: a further condition that makes the request urgent while it holds.
    """

    def __init__(self, *parents: "StopRequest", at_once: Callable[[], bool] | None = None) -> None:
        self._times = 0
        self._parents = parents
        self._at_once = at_once
        self._heard: signal.Signals | None = None

    @property
    def heard(self) -> signal.Signals | None:
        """The signal that asked last; None if none did."""
        return self._heard

    def ask(self) -> int:
        """Asks once more; returns how often this request itself has been asked."""
        self._times += 1
        return self._times

    def ask_at_once(self) -> None:
        """Makes the request urgent."""
        self._times = max(self._times, 2)

    def is_asked(self) -> bool:
        """Whether to stop after the work in progress."""
        return self._has(1) or any(parent.is_asked() for parent in self._parents)

    def is_urgent(self) -> bool:
        """Whether to stop at once."""
        return self._has(2) or any(parent.is_urgent() for parent in self._parents)

    def wait(self, seconds: float) -> bool:
        """Waits until asked, at most `seconds`; returns whether it was asked."""
        return self._wait_until(self.is_asked, seconds)

    def wait_until_urgent(self, seconds: float) -> bool:
        """Waits until urgent, at most `seconds`; returns whether it is urgent."""
        return self._wait_until(self.is_urgent, seconds)

    def _has(self, times: int) -> bool:
        return self._times >= times or (self._at_once is not None and self._at_once())

    def _wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _POLL_SECONDS))
        return condition()

    @contextlib.contextmanager
    def asked_by_signals(
        self,
        on_signal: Callable[[int], None] | None = None,
        signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    ) -> Iterator[None]:
        """Replaces the handlers of `signals` by ones that ask, while the block runs.

        Only the main thread can handle signals; in any other this does nothing.

        Args:
            on_signal: called by the handler with the count of requests; must not block.
            signals: the signals that ask; a SIGHUP that is ignored, as under nohup, stays ignored.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handler(number: int, _frame: object) -> None:
            self._heard = signal.Signals(number)
            times = self.ask()
            if on_signal is not None:
                on_signal(times)

        hangup_is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        heeded = [each for each in signals if each != signal.SIGHUP or not hangup_is_ignored]
        before = {number: signal.signal(number, handler) for number in heeded}
        try:
            yield
        finally:
            for number, previous in before.items():
                signal.signal(number, previous)
