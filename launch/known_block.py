"""A small block of which this process knows the kernel, to check workers by."""

import numpy as np

from kipper.common import messages
from kipper.common.architecture import KernelSpec
from kipper.server.member import KnownBlock
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages
from kipper.workers.self_check import small_images


def known_block(spec: KernelSpec, engine_name: str) -> KnownBlock:
    """Two small images against three.

    Their kernel is computed here by the engine that the run was asked for, and in one thread, so
    that a worker's own device is compared with this one.

    Raises:
        UserError: see `make_engine`.
        WorkerError: the engine fails its own check here.
    """
    images = small_images(spec, np.random.default_rng(0)).astype(spec.dtype)
    engine = make_engine(engine_name, spec, threads=1)
    x1, x2 = (PreparedImages(x, engine.features(x)) for x in (images[:2], images[2:]))
    probe = messages.Probe(x1=x1.images, x2=x2.images)
    return KnownBlock(probe, engine.block(x1, x2))
