"""What a run of given settings comes to, counted before it starts: pairs, bytes, files.

Pure arithmetic on settings and sizes, by the rules that the run itself goes by; kernel pairs are
those that its result.json will say, if nothing is resumed.
"""

import collections
import dataclasses

from kipper.common.settings import DistillSettings, RunSettings
from kipper.server import checkpoint, sampling
from kipper.server.experiment import Experiment
from kipper.server.initial_images import starts_natural
from kipper.server.kip_run import is_evaluated
from kipper.server.label_run import TRAIN_SCORE_ROWS
from kipper.server.tiling import Tiling, triangle

# Beside the kept checkpoints, those to resume from.
_RESUME_POINTS = 2


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a run.

    Attributes:
        name: what is done.
        times: how often.
        pairs: kernel pairs, each time.
        vjp_pairs: pairs of the gradient, each time.
        kernel: which of the run's kernels it is of.
    """

    name: str
    times: int
    pairs: int
    vjp_pairs: int = 0
    kernel: int = 0


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Numbers of images, and of what is predicted of each."""

    support: int
    target: int
    test: int
    validation: int
    outputs: int
    pixels: int  # numbers in an image

    @classmethod
    def of(cls, experiment: Experiment) -> "Sizes":
        return cls(
            len(experiment.support),
            len(experiment.target.labels),
            len(experiment.test.labels),
            len(experiment.validation.labels),
            experiment.num_outputs,
            int(experiment.support[0].size),
        )


def parts_of(settings: RunSettings, sizes: Sizes, tiling: Tiling, scores_here: bool) -> list[Part]:
    """The parts of a run, in the order in which they begin.

    Args:
        settings: of the run.
        sizes: of what it works on.
        tiling: into which blocks its matrices are cut.
        scores_here: whether the run's own workers score validation images.
    """
    n = sizes.support
    k_ss = support_pairs(n, tiling)
    if not isinstance(settings, DistillSettings):
        drawn = min(TRAIN_SCORE_ROWS, sizes.target)
        return [
            Part("support", 1, k_ss),
            Part("targets", 1, n * sizes.target),
            Part("test images", 1, n * sizes.test),
            Part("training images", 1, n * drawn),
        ]
    pairs = k_ss + n * min(settings.targets_per_step, sizes.target)
    steps = range(settings.steps + 1)
    number = len(settings.architectures)
    of_kernel = [sampling.architecture(number, settings.seed, step) for step in steps]
    counts = collections.Counter(of_kernel[:-1])
    parts = [Part("steps", counts[i], pairs, pairs, i) for i in range(number) if counts[i]]
    parts.append(Part("last loss", 1, pairs, kernel=of_kernel[-1]))
    evaluations = sum(is_evaluated(settings, step) for step in steps)
    parts.append(Part("evaluations", evaluations, k_ss + n * sizes.test))
    if scores_here and sizes.validation:
        parts.append(Part("validation", evaluations, k_ss + n * sizes.validation))
    if not starts_natural(settings) or settings.solve_labels_every is not None:
        parts.append(Part("natural images", 1, k_ss + n * sizes.test))
    return parts


def support_pairs(num_support: int, tiling: Tiling) -> int:
    """Pairs of the blocks on and above the diagonal of K_ss."""
    blocks = triangle(num_support, tiling.support)
    return sum((r1 - r0) * (c1 - c0) for (r0, r1), (c0, c1) in blocks)


def checkpoint_bytes(settings: RunSettings, sizes: Sizes) -> tuple[int, int]:
    """How many checkpoints there are at most at once, and the bytes of the arrays of one."""
    n, itemsize = sizes.support, 8 if settings.kernel_dtype == "float64" else 4
    labels = 8 * n * sizes.outputs
    if not isinstance(settings, DistillSettings):
        return 1 + _RESUME_POINTS, 8 * n * n + labels
    images = itemsize * n * sizes.pixels
    # Adam keeps two moments of what it learns.
    size = 3 * images + (3 if settings.learn_labels else 1) * labels
    steps = range(settings.steps + 1)
    kept = sum(checkpoint.is_named(step) or step == settings.steps for step in steps)
    return kept + _RESUME_POINTS, size


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of arrays, beside what Python and the libraries take.

    Attributes:
        data: images as files hold them, and preprocessed.
        matrices: what the coordinator holds of kernels, cotangents and gradients.
        rows: images that each worker holds in the end, where workers have processes of their own.
        features: what each worker's engine computes once of each image, and keeps.
        block: what it takes to compute one block, and to keep for the gradient of others.
    """

    data: int
    matrices: int
    rows: int
    features: int
    block: int


def memory_of(settings: RunSettings, sizes: Sizes, features: int, block: int) -> Memory:
    """Memory by sizes.

    Args:
        settings: of the run.
        sizes: of what it works on.
        features: numbers that engines compute once of an image, those of all kernels together.
        block: as in `Memory`, which is known to whoever has the engine.
    """
    n, itemsize = sizes.support, 8 if settings.kernel_dtype == "float64" else 4
    images = sizes.target + sizes.test + sizes.validation
    # K_ts, its float64 copy and its cotangent; the factor and the cotangent of K_ss beside it.
    at_once = 2 * n
    if isinstance(settings, DistillSettings):
        at_once = min(settings.targets_per_step, sizes.target)
    matrices = 8 * (3 * at_once * n + 5 * n * n + 4 * n * sizes.pixels)
    raw = sizes.pixels * 4 * images
    rows = sizes.pixels * itemsize * (sizes.target + sizes.test + 2 * n)
    return Memory(2 * raw, matrices, rows, itemsize * features * images, block)
