"""Runs of a few tiny images over fake workers with a kernel that needs no engine."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from fake_links import BLOCK_KINDS, FakeLink

from kipper.common import messages
from kipper.common.datasets import Dataset
from kipper.common.messages import SUPPORT_KEY, Reply, Request
from kipper.common.settings import DistillSettings, RunSettings, SolveLabelsSettings
from kipper.server.experiment import Experiment, prepare
from kipper.server.session import Session, open_session
from kipper.server.workdir import Workdir

HASH = "0" * 64


def tiny_dataset() -> Dataset:
    """Two classes of 4 x 4 images that a linear kernel tells apart, 60 to train and 20 to test."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    images = rng.normal(size=(80, 4, 4, 1)) + 0.4 * (2 * labels[:, None, None, None] - 1)
    images = images.astype(np.float32)
    return Dataset("tiny", images[:60], labels[:60], images[60:], labels[60:], ("no", "yes"))


def kip_settings(workdir: pathlib.Path, **changes: Any) -> RunSettings:
    values = {"support_size": 4, "target_batch_size": 20, "steps": 5, "ridge": 1e-3, **changes}
    return RunSettings.of(DistillSettings, workdir=str(workdir), dataset="tiny", **values)


def label_settings(workdir: pathlib.Path) -> RunSettings:
    return RunSettings.of(
        SolveLabelsSettings,
        workdir=str(workdir),
        dataset="tiny",
        support_size=4,
        ridge=1e-3,
        block_target=8,
    )


class LinearKernel:
    """A behaviour of a fake worker: k(x, y) = 1 + x·y / pixels, and its vjps.

    Args:
        at_block: called with each block before it is answered.
    """

    def __init__(self, at_block: Callable[[Request], None] = lambda block: None):
        self._at_block = at_block
        self._arrays: dict[tuple[str | int, int], np.ndarray] = {}

    def __call__(self, request: Request) -> Reply | None:
        match request:
            case messages.PutSupport(version, _, _, _, start, images):
                self._arrays |= {(version, start + i): image for i, image in enumerate(images)}
            case messages.PutRows(key, _, index, rows):
                pairs = zip(index.tolist(), rows, strict=True)
                self._arrays |= {(key, i): row for i, row in pairs}
            case messages.Block() | messages.BlockVjp():
                self._at_block(request)
                return self._answer(request)
        return None

    def _answer(self, request: messages.Block | messages.BlockVjp) -> Reply | None:
        version, is_square = request.version, request.columns_key == SUPPORT_KEY
        key = version if is_square else request.columns_key
        wanted = [(version, i) for i in range(request.start, request.stop)]
        columns = [(key, i) for i in request.columns.tolist()]
        if not {*wanted, *columns} <= self._arrays.keys():
            return None  # the fake worker says itself what it lacks
        x, y = self._stack(wanted), self._stack(columns)
        pixels = x[0].size
        if isinstance(request, messages.Block):
            return messages.KernelBlock(kernel=1 + np.einsum("ihwc,jhwc->ij", x, y) / pixels)
        cotangent = request.cotangent / pixels
        return messages.ImageCotangents(
            rows=np.einsum("ij,jhwc->ihwc", cotangent, y),
            columns=np.einsum("ij,ihwc->jhwc", cotangent, x) if is_square else y[:0],
        )

    def _stack(self, names: list[tuple[str | int, int]]) -> np.ndarray:
        return np.stack([self._arrays[name] for name in names]).astype(np.float32)


@contextlib.contextmanager
def tiny_session(
    settings: RunSettings,
    behaviour: Callable[[Request], Any] | None = None,
    behaviours: Sequence[Callable[[Request], Any]] | None = None,
    **options: Any,
) -> Iterator[Session]:
    """A session over fake workers, which must be closed at its end.

    There are two, of one behaviour, or one for each of `behaviours`.
    """
    workdir, experiment = Workdir(settings.execution.workdir), tiny_experiment(settings)
    workdir.prepare(settings, HASH)
    behaviours = behaviours or [behaviour or LinearKernel()] * 2
    links = [FakeLink(f"worker-{i}", behaviour=each) for i, each in enumerate(behaviours)]
    options = {"score_validation": False, "should_stop": lambda: False, **options}
    try:
        with open_session(settings, experiment, workdir, links, **options) as session:
            yield session
    finally:
        assert all(link.closed for link in links)


def tiny_experiment(settings: RunSettings) -> Experiment:
    return prepare(settings.compute, tiny_dataset())


def is_block(request: Request) -> bool:
    return isinstance(request, BLOCK_KINDS)
