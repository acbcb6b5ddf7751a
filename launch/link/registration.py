"""The worker's side of the rules in `registry.py`: joining, heartbeats and leaving.

A worker waits for a coordinator that does not answer. A restarted coordinator does not know the
worker, which then says `Hello` again and keeps its images.
"""

import concurrent.futures
import random
import time
from collections.abc import Callable

from absl import logging

from kipper.common import messages, wire
from kipper.common.errors import TemporaryError, UserError
from kipper.common.messages import Answer, Call, Failure, Goodbye, Heartbeat, Hello, Leave, Welcome
from kipper.launch.link.transports.addresses import is_listening
from kipper.launch.link.transports.transport import ChannelError, Transport, WrongCertificate
from kipper.launch.processes.stopping import StopRequest

_CALL_SECONDS = 10.0
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
_SECONDS_BETWEEN_COMPLAINTS = 60.0
# Between two requests of a leaving worker whose last blocks are not computed yet.
_LEAVE_POLL_SECONDS = 0.2
# For a moment another run may listen where the coordinator was; this takes some seconds.
_STRANGE_ATTEMPTS = 6


class Unreachable(TemporaryError):
    """The coordinator gave no answer."""


class WronglyCertified(Unreachable):
    """The certificate of the listener is of another run, or not valid now."""


class CoordinatorClient:
    """Calls the coordinator at `address`, which may be unreachable."""

    def __init__(self, address: str, transport: Transport):
        self._address = address
        self._channel = transport.connect(address)

    def ask(self, call: Call) -> Answer:
        """The answer to `call`.

        Raises:
            Unreachable: there was none.
        """
        # A call to a closed port would start gRPC's back-off, which delays the first call that
        # could succeed by half a minute or more.
        if not is_listening(self._address):
            raise Unreachable("nobody listens there")
        future = self._channel.submit(wire.encode(call))
        try:
            answer = wire.decode(future.result(_CALL_SECONDS))
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise Unreachable(f"no answer within {_CALL_SECONDS:.0f} s") from error
        except WrongCertificate as error:
            raise WronglyCertified(str(error)) from error
        except (ChannelError, wire.WireError, concurrent.futures.CancelledError) as error:
            raise Unreachable(str(error) or repr(error)) from error
        if not isinstance(answer, Answer):
            raise Unreachable(f"a {type(answer).__name__} came back; is it a coordinator?")
        return answer

    def close(self) -> None:
        """Cancels calls in flight."""
        self._channel.close()


class Registration:
    """One worker's membership in a run.

    Args:
        ask: as `CoordinatorClient.ask`.
        worker: the worker's name.
        incarnation: identifies this process.
        address: returns where the coordinator can reach this worker; called for every `Hello`. May
            raise `Unreachable` while that is unknown.
        patience: seconds to wait for an unreachable coordinator; None: for ever.
        stop: asks the worker to leave.
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
        """Stays in the run; returns the coordinator's `Goodbye`, or None when asked to stop.

        Raises:
            UserError: the coordinator refuses this worker, or their certificates do not fit.
            TemporaryError: the coordinator has set this process aside; another may do better.
            Unreachable: the coordinator did not answer for longer than `patience`.
        """
        strange = 0  # attempts in a row
        while not self._stop.is_asked():
            try:
                heartbeat = Heartbeat(self._worker, self._incarnation)
                answer = self._ask(heartbeat if self._is_member else self._hello())
            except Unreachable as error:
                strange = strange + 1 if isinstance(error, WronglyCertified) else 0
                if strange == _STRANGE_ATTEMPTS:
                    raise UserError(
                        "The coordinator's certificate does not fit that of --certificates; copy "
                        "the folder that the coordinator uses, or make a new one for all if it "
                        f"has expired ({error})."
                    ) from error
                self._back_off(str(error))
                continue
            strange = 0
            self._last_answer = self._clock()
            match answer:
                case Welcome(heartbeat_seconds):
                    if not self._is_member or self._failures:
                        logging.info("In the run.")
                    self._is_member, self._failures = True, 0
                    self._complained = float("-inf")
                    self._stop.wait(heartbeat_seconds * self._random.uniform(0.7, 1.0))
                case Goodbye():
                    self._is_member = False
                    return answer
                case Failure(messages.REFUSED, message):
                    self._is_member = False
                    raise UserError(message)
                case Failure(messages.SET_ASIDE, message):
                    self._is_member = False
                    raise TemporaryError(message)
                case Failure(messages.UNKNOWN, message) if self._is_member:
                    logging.info("%s", message)
                    self._is_member = False
                case Failure(_, message):
                    self._back_off(message.rstrip("."))
        return None

    def leave(self, seconds: float) -> bool:
        """Says `Leave` until the coordinator agrees; returns False if `seconds` did not suffice."""
        deadline = self._clock() + seconds
        while self._is_member:
            try:
                answer = self._ask(Leave(self._worker, self._incarnation))
            except Unreachable:
                return True  # the coordinator has ended, so it waits for nothing
            if not isinstance(answer, Welcome):
                return True
            if self._clock() >= deadline or self._stop.wait_until_urgent(_LEAVE_POLL_SECONDS):
                return False
        return True

    def _hello(self) -> Hello:
        version = messages.PROTOCOL_VERSION
        return Hello(version, self._worker, self._incarnation, self._address())

    def _back_off(self, reason: str) -> None:
        """Waits before the next attempt, longer each time, and logs that once a minute."""
        now = self._clock()
        if self._patience is not None and now - self._last_answer > self._patience:
            raise Unreachable(
                f"The coordinator did not answer for {now - self._last_answer:.0f} s ({reason}), "
                f"longer than --patience={self._patience:g}."
            )
        if now - self._complained >= _SECONDS_BETWEEN_COMPLAINTS:
            self._complained = now
            # The coordinator may not have started yet, which does not deserve a warning.
            level = logging.WARNING if self._failures else logging.INFO
            logging.log(level, "Waiting for the coordinator: %s.", reason)
        pause = min(_FIRST_PAUSE * 2.0 ** min(self._failures, 16), _LONGEST_PAUSE)
        self._failures += 1
        self._stop.wait(pause * self._random.uniform(0.5, 1.0))
