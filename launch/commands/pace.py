"""Times the steps and evaluations of a run on a pool of this process."""

import statistics
import time
from collections.abc import Callable

from kipper.common.settings import ComputeSettings
from kipper.server.algorithms import algorithm_of
from kipper.server.algorithms.algorithm import Trial
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.estimate import support_pairs
from kipper.server.experiment import Experiment
from kipper.server.pool import Pool
from kipper.server.tiling import Tiling, spans

# For each measurement.
SECONDS = 5.0
_LEAST_REPETITIONS, _REPETITIONS = 8, 40


class Measuring:
    """Times steps and evaluations on a pool of this process.

    Attributes:
        first_answer: when the first of them ended, by `time.monotonic`. It includes everything that
            happens once: compilation, checks of engines, sending of rows.
    """

    def __init__(
        self,
        settings: ComputeSettings,
        num_workers: int,
        experiment: Experiment,
        pool: Pool,
        kernel: DistributedKernel,
        tiling: Tiling,
    ):
        self._settings = settings
        self._num_workers = num_workers
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
        """Seconds of a step for each kernel; target images measured, and in a full step."""
        times: dict[int, float] = {}
        sampled = 0, 0
        trials = algorithm_of(self._settings).step_trials(self.experiment, self.kernel)
        for index, trial in trials.items():
            times[index], rows = self._timed(trial)
            sampled = rows, trial.num_rows
        return times, sampled

    def seconds_per_pair(self) -> float:
        """Seconds of a kernel pair without gradient."""
        trial = algorithm_of(self._settings).pass_trial(self.experiment, self.kernel)
        seconds, _ = self._timed(trial)
        return seconds / self._pairs(trial.num_rows)

    def _timed(self, trial: Trial) -> tuple[float, int]:
        """Seconds for all rows of a trial, extrapolated from some; the number of the latter."""
        act, number = trial
        blocks = spans(number, self._tiling.target)
        used = min(len(blocks), self._num_workers)
        self._seconds_of(act, blocks[used - 1][1])  # compiles
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
        share = self._pairs(number) / self._pairs(rows)
        # A worker compiles at its first block of a shape, which may come late.
        return statistics.median(spent[len(spent) // 2 :]) * share, rows

    def _pairs(self, rows: int) -> int:
        return self._support_pairs + rows * len(self.experiment.support)

    def _seconds_of(self, act: Callable[[int], None], rows: int) -> float:
        start = time.monotonic()
        act(rows)
        now = time.monotonic()
        self.first_answer = self.first_answer or now
        return now - start
