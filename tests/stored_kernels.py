"""Kernels of a few small images by neural-tangents in float64, stored in a file.

They replace that library where it cannot be installed. `python tests/stored_kernels.py` rewrites
the file where it can.
"""

import pathlib

import numpy as np

FILE = pathlib.Path(__file__).parent / "stored_kernels.npz"

# (architecture, kind, (h, w, c)).
CASES = [
    ("fc1", "ntk", (4, 3, 2)),
    ("fc3", "nngp", (4, 3, 2)),
    ("conv_vec2", "ntk", (5, 4, 2)),
    ("convnet", "ntk", (9, 8, 1)),
    ("convnet3", "ntk", (8, 8, 1)),
    ("convnet3", "nngp", (8, 8, 1)),
    ("myrtle5", "ntk", (7, 6, 1)),
    ("convnet4", "nngp", (16, 17, 1)),
    ("convnet2_gap", "ntk", (9, 6, 1)),
]
# The arrays of a case: inputs, then the kernel (2, 3) and the cotangents of both inputs.
PARTS = ("x1", "x2", "cotangent", "kernel", "x1_cotangent", "x2_cotangent")


def stored(name: str, kind: str) -> list[np.ndarray]:
    """The `PARTS` of a case, all float64."""
    with np.load(FILE) as arrays:
        return [arrays[f"{name}_{kind}_{part}"] for part in PARTS]


def _inputs(shape: tuple[int, int, int]) -> list[np.ndarray]:
    """Images with an equal row, as digits have; one image is in both batches."""
    rng = np.random.default_rng(0)
    x1, x2 = rng.normal(size=(2, *shape)), rng.normal(size=(3, *shape))
    x1[:, 0] = x2[:, 0] = -0.4
    x2[1] = x1[0]
    return [x1, x2, rng.normal(size=(2, 3))]


def _write() -> None:
    import jax

    from kipper.common.architecture import KernelSpec, architecture_named
    from kipper.common.precision import enable_x64
    from kipper.workers.neural_tangents import kernel_function

    arrays = {}
    for name, kind, shape in CASES:
        x1, x2, cotangent = _inputs(shape)
        kernel = kernel_function(KernelSpec(architecture_named(name), kind, "float64"))
        with enable_x64():
            values, pull = jax.vjp(jax.jit(kernel), x1, x2)
            parts = (x1, x2, cotangent, values, *pull(cotangent))
        for part, array in zip(PARTS, parts, strict=True):
            arrays[f"{name}_{kind}_{part}"] = np.asarray(array)
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    _write()
