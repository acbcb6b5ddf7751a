"""Measures errors of float32 kernels for images that nearly coincide, by family and closeness.

    python benchmarks/near_errors.py [--architecture=fc2] [--engine=auto] [--image=8x8x3]
        [--scales=1]

Compares K of a pair, its distance 1 - cos and the gradient of its entry with float64. The families
are those of tests/near_images.py.
"""

import argparse

import numpy as np

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.tests.near_images import CLOSENESS, FAMILIES, near_pair, pair_errors
from kipper.workers.choice import make_engine
from kipper.workers.engine import Engine, PreparedImages


def results(engine: Engine, pair: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """K (2, 2), and the gradient of its entry (0, 1) with respect to both images."""
    both = PreparedImages(pair, engine.features(pair))
    first, second = both.take(slice(0, 1)), both.take(slice(1, 2))
    _, pulled = engine.block_vjp(first, second, np.ones((1, 1), pair.dtype), both=True)
    return engine.block(both, both), np.stack(pulled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="fc2")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--image", default="8x8x3")
    parser.add_argument("--scales", default="1")
    options = parser.parse_args()
    architecture = architecture_named(options.architecture)
    engines = {
        dtype: make_engine(options.engine, KernelSpec(architecture, "ntk", dtype), 2)
        for dtype in ("float32", "float64")
    }
    height, width, channels = map(int, options.image.split("x"))
    for scale in map(float, options.scales.split(",")):
        for family in FAMILIES:
            for closeness in CLOSENESS:
                rng = np.random.default_rng(0)
                pair = near_pair(family, closeness, (height, width, channels), rng, scale)
                errors = pair_errors(
                    *(results(engine, pair.astype(dtype)) for dtype, engine in engines.items())
                )
                print(
                    f"scale {scale:.0e}  {family:24} {closeness:.0e}  K {errors.kernel:.1e}  "
                    f"1 - cos {errors.distance:.2e} off by {errors.distance_error:.1e}  "
                    f"gradient {errors.gradient:.1e}"
                )


if __name__ == "__main__":
    main()
