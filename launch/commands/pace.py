"""How fast a run's steps and evaluations go here: made on a pool of this process, and timed."""

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
        """Seconds of a step with each kernel that some step uses; how many target images were used.

        Of these, the second number is what a step of the run takes.
        """
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
        return seconds / (self._support_pairs + trial.num_rows * self._num_support)

    def _timed(self, trial: Trial) -> tuple[float, int]:
        """Seconds for all rows of a trial, extrapolated from the rows timed; how many those are."""
        act, number = trial
        blocks = spans(number, self._tiling.target)
        used = min(len(blocks), self._num_workers)
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
