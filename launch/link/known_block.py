"""A small kernel block that this process computes itself, to check workers with."""

import numpy as np

from kipper.common import messages
from kipper.common.architecture import KernelSpec
from kipper.server.pool_worker import KnownBlock
from kipper.workers.choice import make_engine, unavailable
from kipper.workers.engine import PreparedImages
from kipper.workers.numerics import numerics_of
from kipper.workers.self_check import small_images


def known_block(spec: KernelSpec, engine_name: str, image_shape: tuple[int, ...]) -> KnownBlock:
    """A few images against a few others, which are small if the network's layers are known.

    The run's engine computes the kernel here, in one thread. If it cannot, because a coordinator
    needs no GPU, `auto` does. A worker of the same numeric identity must return the same bits. The
    identity is that of one kernel. In runs with several kernels workers have another identity, so
    their answers may differ by rounding.

    Args:
        spec: the kernel.
        engine_name: value of --engine.
        image_shape: (h, w, c) of the run's images, used for user-defined networks.

    Raises:
        UserError: see `make_engine`.
        WorkerError: the engine fails its own check here.
    """
    rng = np.random.default_rng(0)
    if spec.architecture.file is None:
        images = small_images(spec, rng).astype(spec.dtype)
    else:
        images = rng.normal(size=(3, *image_shape)).astype(spec.dtype)
    few = len(images) // 2
    lacking = unavailable(engine_name, spec)
    engine = make_engine("auto" if lacking else engine_name, spec, threads=1)
    x1, x2 = (PreparedImages(x, engine.features(x)) for x in (images[:few], images[few:]))
    probe = messages.Probe(x1=x1.images, x2=x2.images)
    kernel = engine.block(x1, x2).astype(spec.dtype, copy=False)  # as workers answer a probe
    return KnownBlock(probe, kernel, numerics_of([engine], [spec]))
