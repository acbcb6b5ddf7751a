"""KIP as an algorithm that the package can run."""

import collections
import dataclasses
from typing import TYPE_CHECKING

from kipper.common.errors import UserError
from kipper.common.settings import DistillSettings
from kipper.server import checkpoint, sampling
from kipper.server.algorithms.algorithm import Algorithm, Trial
from kipper.server.checkpoint import named_steps
from kipper.server.estimate import Part, Sizes, support_pairs
from kipper.server.measures import Score
from kipper.server.records import Evaluation, RunResult
from kipper.server.status import Status
from kipper.server.tiling import Tiling

if TYPE_CHECKING:
    from kipper.server.distributed_kernel import DistributedKernel
    from kipper.server.experiment import Experiment, Rows
    from kipper.server.session import Session
    from kipper.server.snapshots import SnapshotSink


# By default, evaluations of more kernel pairs than this take at most a share of the steps' time.
_FEW_PAIRS, _EVALUATIONS_SHARE = 20_000, 0.5
# The time of a pair of a step, whose cotangent is pulled back too, relative to that of an
# evaluation.
_STEP_PAIR = 3


@dataclasses.dataclass(frozen=True)
class Kip(Algorithm):
    """Learns support images, and optionally labels, by gradient descent."""

    settings: DistillSettings

    name = "KIP"
    command = "distill"
    settings_class = DistillSettings
    learns_images = True
    holds_out_validation = True

    @property
    def title(self) -> str:
        return "KIP, labels learned" if self.labels_learned else "KIP"

    @property
    def labels_learned(self) -> bool:
        return self.settings.learn_labels or self.settings.solve_labels_every is not None

    @property
    def steps(self) -> int:
        return self.settings.steps

    @property
    def ends_by_scores(self) -> bool:
        return self.settings.stop == "plateau"

    @property
    def augment(self) -> str | None:
        return self.settings.augment

    @property
    def images_start_natural(self) -> bool:
        """Whether the initial images are natural ones, unchanged."""
        settings = self.settings
        is_natural = settings.support_init == "natural" and settings.freeze_pixels == 0
        return is_natural and settings.initial is None

    @property
    def starts_natural(self) -> bool:
        """Whether step 0 is evaluated with natural images and natural labels."""
        return self.images_start_natural and self.settings.solve_labels_every is None

    def is_evaluated(self, step: int) -> bool:
        if step in (0, self.steps):
            return True
        every = self.settings.eval_every
        return checkpoint.is_named(step) if every is None else step % every == 0

    def evaluated_steps(self, sizes: Sizes) -> list[int]:
        """The steps that a run on data of these sizes evaluates, in order.

        They are those of `is_evaluated`. Unless the user says how often, an evaluation of many
        images is left out if all evaluations but the first would then take more than half the time
        of the steps before it. This depends on sizes alone, so a resumed run evaluates the same
        steps.
        """
        n, every = sizes.support, self.settings.eval_every
        steps = named_steps(self.steps) if every is None else list(range(0, self.steps + 1, every))
        pairs = n * (n + sizes.test + sizes.validation)
        if every is None and pairs > _FEW_PAIRS:
            step_pairs = _STEP_PAIR * n * (n + self.gradient_targets(sizes))
            found = [0]
            for step in steps[1:]:
                if len(found) * pairs <= _EVALUATIONS_SHARE * step * step_pairs:
                    found.append(step)
            steps = found
        return steps if steps[-1] == self.steps else [*steps, self.steps]

    def is_end(self, result: RunResult) -> bool:
        if result.best_step is None or not self.ends_by_scores:
            return super().is_end(result)
        return super().is_end(result) or self.is_plateau(result.steps, result.best_step)

    def is_plateau(self, step: int, best_step: int) -> bool:
        """Whether the best score on held-out images, at `best_step`, is too many steps ago."""
        return step - best_step >= self.settings.patience

    def is_kept(self, step: int) -> bool:
        """Whether the checkpoint of a step is kept permanently."""
        return checkpoint.is_named(step) or step == self.steps

    def check_data(self, rows: "Rows", data_hash: str) -> None:
        from kipper.server.initial_set import check_initial

        settings = self.settings
        if settings.loss == "cross_entropy" and not rows.dataset.has_classes:
            raise UserError(
                f"--loss is cross_entropy, which is for classes, but data set "
                f"{settings.dataset!r} has real-valued targets; give --loss=squared."
            )
        if settings.stop == "plateau" and not len(rows.validation):
            raise UserError(
                f"--stop is plateau, but of {len(rows.target)} training images none can be held "
                "out to see one; give ten or more, or --stop=steps."
            )
        if settings.initial is not None:
            check_initial(settings, rows, data_hash)

    def run(self, session: "Session", sink: "SnapshotSink | None") -> RunResult:
        # Imported here: readers of a run's files need not wait for it.
        from kipper.server.kip_run import run_kip

        return run_kip(session, self, sink)

    def progress(self, status: Status, step: int) -> str:
        return f"step {max(step, status.step or 0):,} of {self.steps:,}"

    def natural_score(self, result: RunResult | None, first: Evaluation | None) -> Score | None:
        found = super().natural_score(result, first)
        if found is None and first is not None and self.starts_natural:
            return first.test
        return found

    def initial_score(self, result: RunResult | None, first: Evaluation | None) -> Score | None:
        return first.test if first is not None else None

    def parts(self, sizes: Sizes, tiling: Tiling, scores_here: bool) -> list[Part]:
        n, settings = sizes.support, self.settings
        k_ss = support_pairs(n, tiling)
        pairs = k_ss + n * self.gradient_targets(sizes)
        number = len(settings.architectures)
        steps = range(self.steps + 1)
        kernels = [sampling.architecture(number, settings.seed, step) for step in steps]
        counts = collections.Counter(kernels[:-1])
        parts = [Part("steps", counts[i], pairs, pairs, i) for i in range(number) if counts[i]]
        parts.append(Part("last loss", 1, pairs, kernel=kernels[-1]))
        evaluations = len(self.evaluated_steps(sizes))
        parts.append(Part("evaluations", evaluations, k_ss + n * sizes.test))
        if scores_here and sizes.validation:
            parts.append(Part("validation", evaluations, k_ss + n * sizes.validation))
        if not self.starts_natural:
            parts.append(Part("natural images", 1, k_ss + n * sizes.test))
        return parts

    def checkpoints(self, sizes: Sizes) -> tuple[int, int]:
        images = sizes.itemsize * sizes.support * sizes.pixels
        labels = 8 * sizes.support * sizes.outputs
        # Two moments of each array that is learned; an average is beside the iterate.
        size = 3 * images + (3 if self.settings.learn_labels else 1) * labels
        size += (images + labels) * (self.settings.average > 0)
        if self.settings.optimiser == "soap":  # two matrices of float64 for each axis
            axes = [sizes.support, *sizes.image_shape]
            axes += [sizes.support, sizes.outputs] if self.settings.learn_labels else []
            size += 16 * sum(axis**2 for axis in axes)
        return sum(map(self.is_kept, range(self.steps + 1))) + checkpoint.MOST_UNNAMED, size

    def gradient_targets(self, sizes: Sizes) -> int:
        return min(self.settings.targets_per_step, sizes.target)

    def step_trials(
        self, experiment: "Experiment", kernel: "DistributedKernel"
    ) -> dict[int, Trial]:
        from kipper.server.kip_run import step_trial

        number, seed = len(self.settings.architectures), self.settings.seed
        used = {sampling.architecture(number, seed, step) for step in range(self.steps)}
        num_rows = min(self.settings.targets_per_step, len(experiment.target.labels))
        trials = {index: step_trial(self, experiment, kernel, index) for index in sorted(used)}
        return {index: Trial(act, num_rows) for index, act in trials.items()}

    def pass_trial(self, experiment: "Experiment", kernel: "DistributedKernel") -> Trial:
        from kipper.server.evaluation import score

        test, ridge = experiment.test, self.settings.ridge
        images = experiment.support.astype(self.settings.kernel_dtype)
        values = experiment.values(experiment.support_labels)

        def act(count: int) -> None:
            kernel.set_support(images.copy())
            score(kernel, values, ridge, test.key, test.labels[:count])

        return Trial(act, len(test.labels))
