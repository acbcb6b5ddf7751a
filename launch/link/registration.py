"""The worker's end of the registry's rules (`registry.py`): it comes, lives, and leaves.

A coordinator that is away, because it starts, was killed or is cut off, is waited for; one that
came back does not know the worker, which then says `Hello` again and keeps what it has resident.
"""

import concurrent.futures
import random
import time
from collections.abc import Callable

from absl import logging

from kipper.common import messages, wire
from kipper.common.errors import KipperError, UserError
from kipper.common.messages import Answer, Call, Failure, Goodbye, Heartbeat, Hello, Leave, Welcome
from kipper.launch.link.transports.addresses import is_listening
from kipper.launch.link.transports.transport import ChannelError, Transport
from kipper.launch.processes.stopping import StopRequest

_CALL_SECONDS = 10.0
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
_SECONDS_BETWEEN_COMPLAINTS = 60.0
# While its last blocks are computed, a leaving worker asks so often whether it may go.
_LEAVE_POLL_SECONDS = 0.2


class Unreachable(KipperError):
    """The coordinator gave no answer."""


class CoordinatorClient:
    """Calls to the coordinator at `address`, which may be away."""

    def __init__(self, address: str, transport: Transport):
        self._address = address
        self._channel = transport.connect(address)

    def ask(self, call: Call) -> Answer:
        """The answer to `call`.

        Raises:
            Unreachable: there was none.
        """
        # A call to a closed port would start gRPC's back-off, which then delays the call that
        # could succeed by up to half a minute and more.
        if not is_listening(self._address):
            raise Unreachable("nobody listens there")
        future = self._channel.submit(wire.encode(call))
        try:
            answer = wire.decode(future.result(_CALL_SECONDS))
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise Unreachable(f"no answer within {_CALL_SECONDS:.0f} s") from error
        except (ChannelError, wire.WireError, concurrent.futures.CancelledError) as error:
            raise Unreachable(str(error) or repr(error)) from error
        if not isinstance(answer, Answer):
            raise Unreachable(f"a {type(answer).__name__} came back; is it a coordinator?")
        return answer

    def close(self) -> None:
        """Gives up what is under way."""
        self._channel.close()


class Registration:
    """One worker's belonging to a run.

    Args:
        ask: as `CoordinatorClient.ask`.
        worker: the worker's name.
        incarnation: of this process.
        address: where the coordinator can reach it; asked anew at every `Hello`. May raise
            `Unreachable` as long as it cannot be known.
        patience: seconds for which an unreachable coordinator is waited for; None: for ever.
        stop: when to leave.
        clock: seconds.
    """

    def __init__(
        self,
        ask: Callable[[Call], Answer],
        worker: str,
        incarnation: str,
        address: Callable[[], str],
        patience: float | None,
        stop: StopRequest,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._ask = ask
        self._worker = worker
        self._incarnation = incarnation
        self._address = address
        self._patience = patience
        self._stop = stop
        self._clock = clock
        self._is_member = False
        self._failures = 0
        self._last_answer = clock()
        self._complained = float("-inf")
        self._random = random.Random(incarnation)

    def stay(self) -> Goodbye | None:
        """Belongs to the run until it is told to go, and returns how; None if asked to stop.

        Raises:
            UserError: the coordinator refuses this worker.
            Unreachable: it has been away for longer than patience lasts.
        """
        while not self._stop.is_asked():
            try:
                answer = self._ask(self._heartbeat() if self._is_member else self._hello())
            except Unreachable as error:
                self._back_off(str(error))
                continue
            self._last_answer = self._clock()
            match answer:
                case Welcome(heartbeat_seconds):
                    self._welcomed()
                    self._stop.wait(heartbeat_seconds * self._random.uniform(0.7, 1.0))
                case Goodbye():
                    self._is_member = False
                    return answer
                case Failure(messages.REFUSED, message):
                    self._is_member = False
                    raise UserError(message)
                case Failure(messages.UNKNOWN, message) if self._is_member:
                    logging.info("%s", message)
                    self._is_member = False
                case Failure(_, message):
                    self._back_off(message)
        return None

    def leave(self, seconds: float) -> bool:
        """Says `Leave` until the coordinator lets it go; False if it did not within `seconds`."""
        deadline = self._clock() + seconds
        while self._is_member:
            try:
                answer = self._ask(Leave(self._worker, self._incarnation))
            except Unreachable:
                return True  # it has died or is dying: it waits for nothing from here
            if not isinstance(answer, Welcome):
                return True
            if self._clock() >= deadline or self._stop.wait_until_urgent(_LEAVE_POLL_SECONDS):
                return False
        return True

    def _hello(self) -> Hello:
        version = messages.PROTOCOL_VERSION
        return Hello(version, self._worker, self._incarnation, self._address())

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(self._worker, self._incarnation)

    def _welcomed(self) -> None:
        if not self._is_member or self._failures:
            logging.info("In the run.")
        self._is_member, self._failures = True, 0
        self._complained = float("-inf")

    def _back_off(self, reason: str) -> None:
        """Waits before the next attempt, each time longer, and says so once a minute."""
        now = self._clock()
        if self._patience is not None and now - self._last_answer > self._patience:
            raise Unreachable(
                f"The coordinator has been away for {now - self._last_answer:.0f} s ({reason}), "
                f"longer than --patience={self._patience:g}."
            )
        if now - self._complained >= _SECONDS_BETWEEN_COMPLAINTS:
            self._complained = now
            # It may not have begun: that is not yet worth a warning.
            level = logging.WARNING if self._failures else logging.INFO
            logging.log(level, "Waiting for the coordinator: %s.", reason)
        pause = min(_FIRST_PAUSE * 2.0 ** min(self._failures, 16), _LONGEST_PAUSE)
        self._failures += 1
        self._stop.wait(pause * self._random.uniform(0.5, 1.0))
