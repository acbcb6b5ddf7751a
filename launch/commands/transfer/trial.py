"""Training and testing networks that differ in their seeds."""

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import numpy as np

from kipper.common.durations import duration
from kipper.common.numbers import percent, significant
from kipper.common.settings import TransferSettings
from kipper.launch.commands.transfer import training
from kipper.launch.commands.transfer.data import TransferData
from kipper.launch.commands.transfer.learning_rate import largest_stable_rate
from kipper.launch.commands.transfer.network import finite_network
from kipper.server import checkpoint

# Is called with each line of progress.
Say: TypeAlias = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """A network after `step` steps; `validation_accuracy` is None if no images were held out."""

    seed: int
    step: int
    loss: float
    train_accuracy: float
    validation_accuracy: float | None
    test_accuracy: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class NetworkResult:
    """A trained network; `test_accuracy` is that on all test images."""

    seed: int
    test_accuracy: float
    validation_accuracy: float | None
    train_accuracy: float
    learning_rate: float
    parameters: int
    seconds: float


class NetworkTrial:
    """Trains and tests networks that differ only in their seeds."""

    def __init__(self, settings: TransferSettings, subject: TransferData, say: Say):
        self._settings, self._subject, self._say = settings, subject, say
        network = finite_network(subject.architecture, settings.width, subject.num_classes)
        self._init = jax.jit(network.init)
        self._apply = network.apply  # one object, since jit caches by it
        self._protocol = training.Protocol(
            settings.loss, settings.steps, settings.l2, settings.batch_size
        )
        self._timed_steps, self._timed_seconds = 0, 0.0

    @property
    def seconds_per_step(self) -> float | None:
        """Mean over all steps except each network's first, which may compile; None before any."""
        return self._timed_seconds / self._timed_steps if self._timed_steps else None

    def run(self, seed: int) -> tuple[NetworkResult, list[CurvePoint]]:
        """Trains one network; returns its result and its points of the curve.

        Raises:
            NumericalError: its training diverged.
        """
        subject, started = self._subject, time.monotonic()
        parameters = self._init(jax.random.PRNGKey(seed), subject.images[:1])
        largest = largest_stable_rate(self._apply, parameters, subject.natural)
        rate = self._settings.max_lr_factor * largest
        last = self._settings.steps
        snapshots = training.train(
            self._apply, parameters, subject.images, subject.labels, self._protocol, rate, seed
        )
        curve = []
        asked = time.monotonic()
        for step, parameters in snapshots:
            if step > 1:
                self._timed_steps += 1
                self._timed_seconds += time.monotonic() - asked
            if checkpoint.is_named(step) and step < last:
                curve.append(self._point(seed, step, parameters, time.monotonic() - started))
            asked = time.monotonic()
        outputs = self._predicted(parameters, subject.test.images)
        point = self._point(seed, last, parameters, time.monotonic() - started, outputs)
        network = NetworkResult(
            seed=seed,
            test_accuracy=_accuracy(outputs, subject.test.labels),
            validation_accuracy=point.validation_accuracy,
            train_accuracy=point.train_accuracy,
            learning_rate=rate,
            parameters=sum(leaf.size for leaf in jax.tree.leaves(parameters)),
            seconds=point.seconds,
        )
        return network, [*curve, point]

    def _point(
        self,
        seed: int,
        step: int,
        parameters: Any,
        seconds: float,
        test_outputs: np.ndarray | None = None,
    ) -> CurvePoint:
        """Measures and prints a point of the curve; `test_outputs` are those of all test images."""
        subject, rows = self._subject, self._subject.curve_rows
        train = self._predicted(parameters, subject.images)
        if test_outputs is None:
            test = self._predicted(parameters, subject.test.images[rows])
        else:
            test = test_outputs[rows]
        validation = None
        if len(subject.validation.labels):
            outputs = self._predicted(parameters, subject.validation.images)
            validation = _accuracy(outputs, subject.validation.labels)
        point = CurvePoint(
            seed=seed,
            step=step,
            loss=training.loss_of(train, subject.labels, self._protocol),
            train_accuracy=_accuracy(train, subject.labels.argmax(axis=1)),
            validation_accuracy=validation,
            test_accuracy=_accuracy(test, subject.test.labels[rows]),
            seconds=round(seconds, 2),
        )
        self._say(_progress(point, self.seconds_left(seed, step)))
        return point

    def _predicted(self, parameters: Any, images: np.ndarray) -> np.ndarray:
        return training.predict(self._apply, parameters, images, self._settings.width)

    def seconds_left(self, seed: int, step: int) -> float:
        """Seconds for the remaining steps of all networks; 0 before any was timed."""
        left = (self._settings.seeds - seed) * self._settings.steps - step
        return (self.seconds_per_step or 0.0) * left


def _accuracy(outputs: np.ndarray, classes: np.ndarray) -> float:
    return float(np.mean(outputs.argmax(axis=1) == classes))


def _progress(point: CurvePoint, left: float) -> str:
    validation = point.validation_accuracy
    parts = [
        f"seed {point.seed}  step {point.step:>5}  loss {significant(point.loss):<10}",
        f"train {percent(point.train_accuracy):>7}",
        f"validation {percent(validation):>7}" if validation is not None else "",
        f"test {percent(point.test_accuracy):>7}",
        f"{point.seconds:7.1f} s",
        f"{duration(left)} of steps left" if left >= 1 else "",
    ]
    return "  ".join(part for part in parts if part)


def say_on_stderr(line: str) -> None:
    """Prints a line of progress to stderr."""
    print(line, file=sys.stderr, flush=True)
