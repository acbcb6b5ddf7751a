"""`kipper transfer --all_kernels`: the score of a distilled set with many other kernels."""

import dataclasses
import time
from typing import Any

import numpy as np

from kipper.common.architecture import check_image_side
from kipper.common.errors import NumericalError, UserError
from kipper.common.numbers import significant
from kipper.common.settings import RunSettings, TransferSettings
from kipper.launch.commands.distilled_file import DistilledFile, kernel_on
from kipper.launch.commands.transfer.data import RegressionAccuracy, read_file, score_by
from kipper.launch.commands.transfer.trial import Say
from kipper.server.experiment import Split
from kipper.server.measures import Score
from kipper.workers.choice import check_engine

# Shallow and deep, dense and convolutional, with and without pooling, Flatten or a global average.
ARCHITECTURES = (
    "fc1",
    "fc3",
    "conv_vec1",
    "conv_vec3",
    "conv_vec8",
    "convnet3",
    "convnet",
    "myrtle5",
    "myrtle10",
)
KINDS = ("ntk", "nngp")
# Distilled and test images that are evaluated first, to measure the speed of a kernel.
_PILOT = 10, 40


@dataclasses.dataclass(frozen=True)
class KernelRow:
    """The result for one kernel, or why it was left out."""

    architecture: str
    kernel: str
    pairs: int
    left_out: str = ""
    score: Score | None = None
    seconds: float = 0.0

    def record(self) -> dict[str, Any]:
        """For JSON."""
        row = {"architecture": self.architecture, "kernel": self.kernel, "pairs": self.pairs}
        if self.score is None:
            return {**row, "left_out": self.left_out}
        scores = {"test_accuracy": self.score.value, "test_loss": self.score.loss}
        return {**row, **scores, "seconds": self.seconds}


def evaluate_all_kernels(settings: TransferSettings, say: Say) -> dict[str, Any]:
    """Kernel regression with each kernel of the list, and with the set's own.

    A kernel is left out, with the reason, if the images are too small for it, no engine evaluates
    it, its regression cannot be solved, or it would take longer than `max_minutes`.

    Raises:
        UserError: the set cannot be used.
    """
    file = read_file(settings)
    test = Split(file.preprocessing.apply(file.dataset.x_test), file.dataset.y_test)
    made = file.run.compute.kernel_spec.architecture.title
    names = [*ARCHITECTURES] if made in ARCHITECTURES else [made, *ARCHITECTURES]
    kernels = []
    for name in names:
        for kind in KINDS:
            run = file.run.replace(architecture=name, kernel=kind)
            kernels.append(_row(run, file, test, settings.max_minutes))
            say(_line(kernels[-1]))
    return {
        "distilled": settings.distilled,
        "dataset": file.run.compute.dataset,
        "support_size": len(file.images),
        "test_size": len(test.labels),
        "ridge": file.run.compute.ridge,
        "kernel_dtype": file.run.compute.kernel_dtype,
        "made_with": {"architecture": made, "kernel": file.run.compute.kernel},
        "kernels": [row.record() for row in kernels],
    }


def _row(run: RunSettings, file: DistilledFile, test: Split, max_minutes: float) -> KernelRow:
    compute, supports = run.compute, len(file.images)
    pairs = supports * (supports + len(test.labels))
    row = KernelRow(compute.architecture, compute.kernel, pairs)
    try:
        check_image_side(compute.kernel_spec.architecture, *file.images.shape[1:3])
        check_engine(compute.engine, compute.kernel_spec)
        expected = _expected_seconds(run, file, test, pairs)
        if expected > 60 * max_minutes:
            minutes = f"about {expected / 60:.2g} minutes"
            left_out = f"{pairs:,} kernel pairs would take {minutes}"
            return dataclasses.replace(row, left_out=left_out)
        started = time.monotonic()
        score = score_by(run, file, test)
    except (UserError, NumericalError) as error:
        return dataclasses.replace(row, left_out=str(error))
    return dataclasses.replace(row, score=score, seconds=round(time.monotonic() - started, 1))


def _expected_seconds(run: RunSettings, file: DistilledFile, test: Split, pairs: int) -> float:
    """Seconds that all pairs will take, from the second pass over a part; the first compiles."""
    supports, tests = min(_PILOT[0], len(file.images)), min(_PILOT[1], len(test.labels))
    few = Split(test.images[:tests], test.labels[:tests])
    with kernel_on(run, few) as (_, kernel):
        every = np.arange(tests)
        times = []
        for _ in range(2):
            started = time.monotonic()
            kernel.set_support(file.images[:supports].astype(run.compute.kernel_dtype))
            kernel.support_matrix()
            list(kernel.target_chunks(few.key, every))
            times.append(time.monotonic() - started)
    return min(times) * pairs / (supports * (supports + tests))


def title(kernel: KernelRow | RegressionAccuracy) -> str:
    """`convnet, NTK`."""
    return f"{kernel.architecture}, {kernel.kernel.upper()}"


def _line(row: KernelRow) -> str:
    start = f"{row.architecture:<10} {row.kernel:<5}"
    if row.score is None or row.score.loss is None:
        return f"{start} left out: {row.left_out}"
    return (
        f"{start} test {row.score.amount:>7}  loss {significant(row.score.loss):<10}  "
        f"{row.pairs:>12,} pairs  {row.seconds:7.1f} s"
    )
