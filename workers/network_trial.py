"""Tries a user-defined network before a run begins, in a separate process on the CPU.

The user's code then cannot harm the process that starts the run, and that process does not occupy
a device that its workers need.
"""

import contextlib
import json
import os
import subprocess
import sys

import numpy as np

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.errors import UserError
from kipper.workers.engine import PreparedImages
from kipper.workers.neural_tangents_engine import NeuralTangentsEngine

_SHOWN = 300  # characters of the stderr of a process that died


def try_network(spec: KernelSpec, image_shape: tuple[int, ...]) -> None:
    """Evaluates the user-defined network of `spec`, if it has one, on images of (h, w, c).

    Raises:
        UserError: the network cannot be made, or it does not compute a kernel.
    """
    file = spec.architecture.file
    if file is None:
        return
    reference = f"{file.path}:{file.function}#{file.sha256}"
    trial = json.dumps([reference, spec.kind, spec.dtype, image_shape])
    done = subprocess.run(
        [sys.executable, "-m", __name__, trial],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    if done.returncode:
        words = " ".join(done.stderr.split())[-_SHOWN:] or "no message"
        died = f"{file.path} ended its process with status {done.returncode}: {words}."
        raise UserError(done.stdout.strip() or died)


def _evaluate(reference: str, kind: str, dtype: str, image_shape: list[int]) -> None:
    engine = NeuralTangentsEngine(KernelSpec(architecture_named(reference), kind, dtype))
    images = np.random.default_rng(0).normal(size=(3, *image_shape)).astype(dtype)
    one, two = (PreparedImages(x, engine.features(x)) for x in (images[:1], images[1:]))
    for kernel in (engine.block(one, two), engine.block(two, two)):
        if not np.isfinite(kernel).all():
            path, _, function = reference.partition("#")[0].rpartition(":")
            raise UserError(
                f"{path}: the kernel of {function}() is not finite for images of shape "
                f"{tuple(image_shape)}."
            )


def _main() -> int:
    """Prints one sentence and returns 2 if the network does not compute a kernel."""
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the file prints
            _evaluate(*json.loads(sys.argv[1]))
    except UserError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(_main())
