"""The interface of an algorithm to the rest of the package."""

import abc
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from kipper.common.settings import ComputeSettings
from kipper.server.measures import Score
from kipper.server.records import Evaluation, RunResult
from kipper.server.status import Status

if TYPE_CHECKING:  # these import this module, or take a second to import
    from kipper.server.distributed_kernel import DistributedKernel
    from kipper.server.estimate import Part, Sizes
    from kipper.server.experiment import Experiment, Rows
    from kipper.server.session import Session
    from kipper.server.snapshots import SnapshotSink
    from kipper.server.tiling import Tiling


class Trial(NamedTuple):
    """A part of a run to time: `act(n)` computes it on n rows, of the `num_rows` of the run."""

    act: Callable[[int], None]
    num_rows: int


@dataclasses.dataclass(frozen=True)
class Algorithm(abc.ABC):
    """An algorithm with the settings of one run: what it computes, saves, shows and reports.

    Attributes:
        name: for display.
        command: its name on the command line.
        settings_class: its name identifies the algorithm in config.json.
        learns_images: whether support images change, so that checkpoints hold them.
        holds_out_validation: whether training images are held out to choose among snapshots.
        steps: gradient steps to make; None for an algorithm without them.
        augment: how target images are augmented, for `parse_augmentation`; None if they are not.
    """

    settings: ComputeSettings

    name: ClassVar[str]
    command: ClassVar[str]
    settings_class: ClassVar[type[ComputeSettings]]
    learns_images: ClassVar[bool]
    holds_out_validation: ClassVar[bool]

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """A few words for tables and figures."""

    @property
    @abc.abstractmethod
    def labels_learned(self) -> bool:
        """Whether the run changes the labels of the support set."""

    @property
    def steps(self) -> int | None:
        return None

    @property
    def unit(self) -> str:
        """What the positions of a run's states count."""
        return "target image" if self.steps is None else "step"

    @property
    def ends_by_scores(self) -> bool:
        """Whether scores on held-out images decide when the run ends."""
        return False

    @property
    def augment(self) -> str | None:
        return None

    def check_data(self, rows: "Rows", data_hash: str) -> None:  # noqa: B027
        """Raises a UserError if the settings do not fit the data set."""

    @abc.abstractmethod
    def run(self, session: "Session", sink: "SnapshotSink | None") -> RunResult:
        """Runs to the end, from the newest checkpoint if there is one, and writes the results.

        Evaluated snapshots go to `sink`, if there is one.

        Raises:
            NumericalError: the regression could not be solved.
            WorkerError: no worker is left, or a block failed on several.
            Interrupted: the user asked to stop; a checkpoint was written first.
        """

    @abc.abstractmethod
    def progress(self, status: Status, step: int) -> str:
        """How far a run is; `step` is that of its newest evaluation."""

    def is_evaluated(self, step: int) -> bool:
        """Whether the state at a step is scored on the test images."""
        return step == 0

    def is_end(self, result: RunResult) -> bool:
        """Whether a run with these settings ends at the step of this result."""
        return result.steps == (self.steps or 0)

    def natural_score(self, result: RunResult | None, first: Evaluation | None) -> Score | None:
        """The test score of natural images with natural labels; `first` is the first evaluation."""
        return result.natural if result is not None else None

    def initial_score(self, result: RunResult | None, first: Evaluation | None) -> Score | None:
        """The test score of the set that the run starts from; None before it is known."""
        return self.natural_score(result, first)

    @abc.abstractmethod
    def parts(self, sizes: "Sizes", tiling: "Tiling", scores_here: bool) -> "list[Part]":
        """The parts of a run with their kernel pairs, in the order of their start.

        `scores_here`: whether the run's own workers score validation images.
        """

    @abc.abstractmethod
    def checkpoints(self, sizes: "Sizes") -> tuple[int, int]:
        """The maximum number of checkpoints at any time, and the bytes of the arrays of one."""

    def gradient_targets(self, sizes: "Sizes") -> int:
        """Target images of a gradient step; 0 for an algorithm without them."""
        return 0

    def step_trials(
        self, experiment: "Experiment", kernel: "DistributedKernel"
    ) -> dict[int, Trial]:
        """A gradient step, for each of the run's kernels that some step uses."""
        return {}

    @abc.abstractmethod
    def pass_trial(self, experiment: "Experiment", kernel: "DistributedKernel") -> Trial:
        """The pass over a row set that computes most kernel pairs without gradient."""
