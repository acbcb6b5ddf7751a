"""A run that attacks itself: messages lost, late and damaged, processes killed and frozen, a liar.

What every cluster does in the long run, on purpose and soon, so that one can see that nothing comes
of it: the result is bitwise that of a quiet run.
"""

import concurrent.futures
import contextlib
import dataclasses
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import numpy as np
from absl import logging

from kipper.common import messages, wire
from kipper.common.chaos import Chaos
from kipper.common.messages import ImageCotangents, KernelBlock, Reply, Request
from kipper.server.protocol import WorkerLink

# A process is frozen for so many seconds, at most.
_LONGEST_FREEZE_SECONDS = 10.0
# What a liar's numbers are multiplied by: too little for anything but a comparison to notice.
_LIE = 1.001

_Future = concurrent.futures.Future[Reply]


class ChaosLink:
    """A link on which messages get lost, late and damaged, and behind which there may be a liar.

    What makes a worker ready is spared: a worker that fails then is not one of the run yet.
    """

    def __init__(self, link: WorkerLink, chaos: Chaos, is_liar: bool):
        self.name = link.name
        self.host = link.host
        self._link = link
        self._chaos = chaos
        self._is_liar = is_liar
        self._random = random.Random(f"{chaos.seed} {link.name}")

    def submit(self, request: Request) -> _Future:
        """As `WorkerLink.submit`, with what may go wrong on both ways."""
        if isinstance(request, messages.Configure | messages.Probe):
            return self._link.submit(request)
        future: _Future = concurrent.futures.Future()
        chaos, lost = self._chaos, self._random.random()
        if lost < chaos.drop / 2:
            self._later(lambda: future.set_exception(ConnectionError("the question was lost")))
        elif damage := self._damage(request):
            failure = messages.Failure(kind=messages.DAMAGED, message=damage)
            self._later(lambda: future.set_result(failure))
        else:
            self._link.submit(request).add_done_callback(
                lambda done: self._answered(future, done, lost < chaos.drop)
            )
        return future

    def close(self) -> None:
        self._link.close()

    def _answered(self, future: _Future, done: _Future, lost: bool) -> None:
        if done.cancelled():
            future.cancel()
        elif error := done.exception():
            self._settle(lambda: future.set_exception(error))
        elif lost:
            self._later(lambda: future.set_exception(ConnectionError("the answer was lost")))
        else:
            reply = done.result()
            if self._is_liar and self._random.random() < self._chaos.lie:
                reply = _lie(reply)
            if damage := self._damage(reply):
                self._later(lambda: future.set_exception(wire.WireError(damage)))
            else:
                self._later(lambda: future.set_result(reply))

    def _damage(self, message: Request | Reply) -> str | None:
        """What the receiver says of the message if a byte of it is changed; None if none is.

        Raises:
            AssertionError: the receiver would not notice.
        """
        if self._random.random() >= self._chaos.corrupt:
            return None
        payload = bytearray(wire.encode(message))
        payload[self._random.randrange(len(payload))] ^= 1 << self._random.randrange(8)
        try:
            wire.decode(bytes(payload))
        except wire.WireError as error:
            return str(error)
        raise AssertionError("a changed byte was not noticed")

    def _later(self, settle: Callable[[], object]) -> None:
        if self._chaos.delay is None:
            self._settle(settle)
            return
        timer = threading.Timer(
            self._random.uniform(0, 2 * self._chaos.delay), lambda: self._settle(settle)
        )
        timer.daemon = True
        timer.start()

    def _settle(self, settle: Callable[[], object]) -> None:
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # cancelled meanwhile
            settle()


def _lie(reply: Reply) -> Reply:
    if isinstance(reply, KernelBlock | ImageCotangents):
        wrong = {
            name: value * value.dtype.type(_LIE)
            for name, value in vars(reply).items()
            if isinstance(value, np.ndarray)
        }
        return dataclasses.replace(reply, **wrong)
    return reply


def with_faults(link: WorkerLink, chaos: Chaos | None, num_workers: int) -> WorkerLink:
    """The link, under attack if there is chaos; one of the run's own workers is the liar."""
    if chaos is None:
        return link
    return ChaosLink(link, chaos, link.name == f"worker-{chaos.seed % max(1, num_workers)}")


def attack_this_process(chaos: Chaos) -> None:
    """Kills and freezes this process at random moments, from threads that are started here."""
    attacks = ((chaos.kill, _kill), (chaos.freeze, _freeze))
    for mean, attack in attacks:
        if mean is not None:
            draws = random.Random(f"{chaos.seed} {os.getpid()} {attack.__name__}")
            threading.Thread(target=_repeat, args=(attack, mean, draws), daemon=True).start()


def _repeat(attack: Callable[[random.Random], None], mean: float, draws: random.Random) -> None:
    while True:
        time.sleep(draws.expovariate(1 / mean))
        attack(draws)


def _kill(_draws: random.Random) -> None:
    logging.warning("Chaos kills this worker.")
    logging.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def _freeze(draws: random.Random) -> None:
    seconds = draws.uniform(0, _LONGEST_FREEZE_SECONDS)
    logging.warning("Chaos freezes this worker for %.1f s.", seconds)
    logging.flush()
    # Who is frozen cannot wake itself.
    subprocess.Popen(
        ["/bin/sh", "-c", f"sleep {seconds:.2f}; kill -CONT {os.getpid()}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.kill(os.getpid(), signal.SIGSTOP)
