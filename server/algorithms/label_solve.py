"""Label Solve as an algorithm that the package can run."""

import dataclasses
from typing import TYPE_CHECKING

from kipper.common.settings import SolveLabelsSettings
from kipper.server import checkpoint
from kipper.server.algorithms.algorithm import Algorithm, Trial
from kipper.server.estimate import Part, Sizes, support_pairs
from kipper.server.records import RunResult
from kipper.server.status import Status
from kipper.server.tiling import Tiling

if TYPE_CHECKING:
    from kipper.server.distributed_kernel import DistributedKernel
    from kipper.server.experiment import Experiment
    from kipper.server.session import Session
    from kipper.server.snapshots import SnapshotSink

# The training score is taken on a class-balanced draw: it costs kernel blocks of its own, while the
# loss over all targets follows from sums that are computed anyway.
TRAIN_SCORE_ROWS = 5000


@dataclasses.dataclass(frozen=True)
class LabelSolve(Algorithm):
    """Solves for the labels of natural support images in closed form."""

    settings: SolveLabelsSettings

    name = "Label Solve"
    command = "solve_labels"
    settings_class = SolveLabelsSettings
    learns_images = False
    holds_out_validation = False

    @property
    def title(self) -> str:
        return "LS"

    @property
    def labels_learned(self) -> bool:
        return True

    def run(self, session: "Session", sink: "SnapshotSink | None") -> RunResult:
        # Imported here: readers of a run's files need not wait for the kernels.
        from kipper.server.label_run import run_label_solve

        return run_label_solve(session, self.settings)

    def progress(self, status: Status, step: int) -> str:
        if not status.rows_total or status.state == "finished":
            return ""
        return f"{status.rows:,} of {status.rows_total:,} {status.rows_of}"

    def parts(self, sizes: Sizes, tiling: Tiling, scores_here: bool) -> list[Part]:
        n = sizes.support
        return [
            Part("support", 1, support_pairs(n, tiling)),
            Part("targets", 1, n * sizes.target),
            Part("test images", 1, n * sizes.test),
            Part("training images", 1, n * min(TRAIN_SCORE_ROWS, sizes.target)),
        ]

    def checkpoints(self, sizes: Sizes) -> tuple[int, int]:
        return 1 + checkpoint.MOST_UNNAMED, 8 * sizes.support * (sizes.support + sizes.outputs)

    def pass_trial(self, experiment: "Experiment", kernel: "DistributedKernel") -> Trial:
        from kipper.server import label_solve

        target = experiment.target
        images = experiment.support.astype(self.settings.kernel_dtype)
        none = label_solve.no_moments(len(images), experiment.num_outputs)

        def act(count: int) -> None:
            kernel.set_support(images.copy())
            kernel.support_matrix()
            for _ in label_solve.add_targets(none, kernel, target.key, target.labels[:count]):
                pass

        return Trial(act, len(target.labels))
