"""Faults on purpose: lost, late and damaged messages, killed and frozen processes, wrong numbers.

They show that faults, which occur on every cluster in the long run, do not change a run's result.
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

_MAX_FREEZE_SECONDS = 10.0
# A liar multiplies its numbers by this, which only a comparison can notice.
_LIE = 1.001

_Future = concurrent.futures.Future[Reply]


class ChaosLink:
    """A link that loses, delays and damages messages, and whose worker may lie.

    Messages that prepare a worker are spared: a worker that fails then is not in the run yet.
    """

    def __init__(self, link: WorkerLink, chaos: Chaos, is_liar: bool):
        self.name = link.name
        self.host = link.host
        self._link = link
        self._chaos = chaos
        self._is_liar = is_liar
        self._random = random.Random(f"{chaos.seed} {link.name}")

    def submit(self, request: Request) -> _Future:
        """Like `WorkerLink.submit`, with faults in both directions."""
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
        """The receiver's error if a bit of the message is flipped; None if no bit is.

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
    """The link with the given faults, if any; one of the run's own workers is the liar."""
    if chaos is None:
        return link
    return ChaosLink(link, chaos, link.name == f"worker-{chaos.seed % max(1, num_workers)}")


def attack_this_process(chaos: Chaos) -> None:
    """Starts threads that kill and freeze this process at random moments."""
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
    seconds = draws.uniform(0, _MAX_FREEZE_SECONDS)
    logging.warning("Chaos freezes this worker for %.1f s.", seconds)
    logging.flush()
    # A frozen process cannot wake itself.
    subprocess.Popen(
        ["/bin/sh", "-c", f"sleep {seconds:.2f}; kill -CONT {os.getpid()}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.kill(os.getpid(), signal.SIGSTOP)
