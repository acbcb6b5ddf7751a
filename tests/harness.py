"""A distributed kernel over in-process workers."""

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
from installation import NEURAL_TANGENTS
from pool_requests import CONFIGURE

from kipper.common import messages
from kipper.common.architecture import KernelSpec
from kipper.common.wire import content_key
from kipper.launch.inprocess import inprocess_links
from kipper.server import kip, krr
from kipper.server.distributed_kernel import DistributedKernel
from kipper.server.pool import Pool
from kipper.server.tiling import Tiling

REFERENCE = "neural_tangents" if NEURAL_TANGENTS else "auto"


def configure(spec: KernelSpec, engine: str) -> messages.Configure:
    return dataclasses.replace(
        CONFIGURE,
        architectures=[spec.architecture.name],
        kind=spec.kind,
        dtype=spec.dtype,
        engine=engine,
    )


def assembled(
    spec: KernelSpec,
    support: tuple[np.ndarray, np.ndarray],
    resident: np.ndarray,
    rows: np.ndarray,
    targets: np.ndarray,
    tiling: Tiling,
    ridge: float,
    engine: str = REFERENCE,
) -> tuple[krr.Regression, np.ndarray]:
    """The regression of `support` (images, labels) on resident rows, and the image gradient."""
    with distributed_kernel(spec, resident, tiling, engine=engine) as (kernel, key):
        state = kip.initial_state(*support, learn_labels=True)
        regression = kip.loss_at(kernel, state, kip.Targets(key, rows, targets), ridge)
        cotangents = regression.cotangents
        return regression, kernel.gradient(cotangents.k_ss, cotangents.k_ts)


@contextlib.contextmanager
def distributed_kernel(
    spec: KernelSpec,
    rows: np.ndarray,
    tiling: Tiling,
    num_workers: int = 2,
    engine: str = REFERENCE,
) -> Iterator[tuple[DistributedKernel, str]]:
    """The kernel over its own workers, and the key of `rows` (float32) there."""
    row_sets = {content_key(rows): rows}
    pool = Pool(inprocess_links(num_workers, row_sets), configure(spec, engine), row_sets)
    try:
        yield DistributedKernel(pool, tiling), content_key(rows)
    finally:
        pool.close()
