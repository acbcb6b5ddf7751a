"""How fast a run's steps and evaluations go here: made on a pool of this process, and timed."""

import statistics
import time
from collections.abc import Callable

import numpy as np

from kipper.common.settings import DistillSettings, RunSettings
from kipper.server import kip, krr, label_solve, sampling
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.estimate import support_pairs
from kipper.server.evaluation import score_coefficients
from kipper.server.experiment import Experiment, Split
from kipper.server.initial_images import frozen_pixels
from kipper.server.kip_run import first_state, rows_of, targets_of
from kipper.server.optimiser import adam_of
from kipper.server.pool import Pool
from kipper.server.tiling import Tiling, spans

# For each thing that is measured.
SECONDS = 5.0
_LEAST_REPETITIONS, _REPETITIONS = 8, 40


class Measuring:
    """Times steps and evaluations on a pool of this process.

    Attributes:
        first_answer: when the first of them was over, which includes what comes once: compilers,
            checks of engines, rows that go to workers.
    """

    def __init__(
        self,
        settings: RunSettings,
        experiment: Experiment,
        pool: Pool,
        kernel: DistributedKernel,
        tiling: Tiling,
    ):
        self._settings = settings
        self.experiment = experiment
        self._pool = pool
        self.kernel = kernel
        self._tiling = tiling
        self._support_pairs = support_pairs(len(experiment.support), tiling)
        self.first_answer = 0.0

    @property
    def engine(self) -> str:
        return next(iter(self._pool.engines.values()), self._settings.engine)

    def steps(self) -> tuple[dict[int, float], tuple[int, int]]:
        """Seconds of a step by each kernel that some step has; how many target images were used."""
        settings, experiment = self._settings, self.experiment
        if not isinstance(settings, DistillSettings) or settings.steps == 0:
            return {}, (0, 0)
        used = {
            sampling.architecture(len(settings.architectures), settings.seed, step)
            for step in range(settings.steps)
        }
        times: dict[int, float] = {}
        for position in sorted(used):
            number = len(rows_of(experiment, settings, 0))
            times[position], rows = self._timed(_Steps(self, settings, position), number)
            sampled = rows, number
        return times, sampled

    def seconds_per_pair(self) -> float:
        """Of kernels alone: on test images, or, of Label Solve, of the sums over targets."""
        settings, experiment = self._settings, self.experiment
        is_kip = isinstance(settings, DistillSettings)
        split: Split = experiment.test if is_kip else experiment.target
        images = experiment.support.astype(settings.kernel_dtype)
        values = experiment.values(experiment.support_labels)

        def some(count: int) -> None:
            self.kernel.set_support(images.copy())
            k_ss = self.kernel.support_matrix()
            if is_kip:
                weights = [krr.Factor(k_ss, settings.ridge).solve(values)]
                rows = np.arange(count)
                score_coefficients(self.kernel, weights, split.key, rows, split.labels[:count])
                return
            none = label_solve.no_moments(len(images), experiment.num_outputs)
            for _ in label_solve.add_targets(none, self.kernel, split.key, split.labels[:count]):
                pass

        number = len(split.labels)
        seconds, _ = self._timed(some, number)
        return seconds / (self._support_pairs + number * len(images))

    def _timed(self, act: Callable[[int], None], number: int) -> tuple[float, int]:
        """Seconds that `act` takes for `number` rows, from those it takes for so many blocks of
        them as time allows; and how many rows that were."""
        blocks = spans(number, self._tiling.target)
        used = min(len(blocks), self._settings.num_workers or 1)
        self._seconds_of(act, blocks[used - 1][1])  # compiles, which takes however long it takes
        began = time.monotonic()
        while True:
            rows = blocks[used - 1][1]
            spent = [self._seconds_of(act, rows), self._seconds_of(act, rows)]
            left = began + SECONDS - time.monotonic()
            if used == len(blocks) or left < 8 * spent[1]:
                break
            used = min(len(blocks), used * max(2, int(left / (8 * spent[1]))))
        while len(spent) < _REPETITIONS:
            taken = time.monotonic() - began
            if taken > (SECONDS if len(spent) >= _LEAST_REPETITIONS else 3 * SECONDS):
                break
            spent.append(self._seconds_of(act, rows))
        share = (self._support_pairs + number * self._num_support) / (
            self._support_pairs + rows * self._num_support
        )
        # Each worker compiles for itself what the scheduler gives it first, which may be late.
        return statistics.median(spent[len(spent) // 2 :]) * share, rows

    @property
    def _num_support(self) -> int:
        return len(self.experiment.support)

    def _seconds_of(self, act: Callable[[int], None], rows: int) -> float:
        start = time.monotonic()
        act(rows)
        now = time.monotonic()
        self.first_answer = self.first_answer or now
        return now - start


class _Steps:
    """Steps of KIP from the run's first state, each with other target images as in the run."""

    def __init__(self, measuring: Measuring, settings: DistillSettings, position: int):
        self._settings = settings
        self._experiment = measuring.experiment
        self._kernel = measuring.kernel
        self._position = position
        self._state = first_state(self._experiment, settings)
        self._adam = adam_of(settings)
        self._frozen = frozen_pixels(self._experiment, settings)
        self._step = 0
        self._drawn = {0: rows_of(self._experiment, settings, 0)}

    def __call__(self, count: int) -> None:
        """One step on the first `count` of its target images; makes those of the next ready."""
        targets = self._targets(count)
        fresh = self._state._replace(images=self._state.images.copy())
        regression = kip.loss_at(self._kernel, fresh, targets, self._settings.ridge)
        self._step += 1
        self._drawn = {self._step: rows_of(self._experiment, self._settings, self._step)}
        ahead = self._targets(count)
        self._kernel.bring_ahead(ahead.key, ahead.rows, ahead.draw, ahead.kernel)
        kip.update(self._kernel, fresh, regression.cotangents, self._adam, self._frozen)

    def _targets(self, count: int) -> kip.Targets:
        rows = self._drawn[self._step][:count]
        targets = targets_of(self._experiment, self._settings, self._step, rows)
        return targets._replace(kernel=self._position)
