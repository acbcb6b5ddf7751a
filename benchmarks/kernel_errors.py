"""Measures errors of the native engine against neural-tangents in float64, over a grid.

    python benchmarks/kernel_errors.py [--architectures=convnet,convnet3,conv_vec2,myrtle5]
        [--images=8x8x1,9x11x3,13x8x1,16x16x3]
    PYTHONPATH=tests python benchmarks/kernel_errors.py --near=banded_cpu [--architectures=…]

Covers both kernels and both dtypes: K and its vjp with respect to the first images, relative to the
largest entry, on 3 by 5 images that differ. Prints a line per case, and the largest errors.

With `--near`, measures that engine in float32 against float64, for the last size of images and the
families of pairs in tests/near_images.py: for each closeness the largest of four pairs, of the
errors of K, of 1 - cos relative to itself, and of the gradient.
"""

import argparse
import itertools
from collections.abc import Sequence

import numpy as np
from kernel_engines import errors

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.workers.choice import make_engine
from kipper.workers.engine import Engine, PreparedImages


def near_errors(engine: str, architectures: Sequence[str], shape: tuple[int, int, int]) -> None:
    """Prints a line for each network and family of pairs that nearly coincide."""
    from near_images import CLOSENESS, FAMILIES, near_pair, pair_errors

    def of_pair(made: Engine, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        prepared = PreparedImages(images, made.features(images))
        cotangent = np.array([[0, 1], [0, 0]], images.dtype)
        kernel, (first, second) = made.block_vjp(prepared, prepared, cotangent, both=True)
        return kernel, np.stack([first[0], second[1]])

    print(f"{engine}; at closeness {', '.join(f'{closeness:.0e}' for closeness in CLOSENESS)}")
    for name, family in itertools.product(architectures, FAMILIES):
        single, double = (
            make_engine(engine, KernelSpec(architecture_named(name), "ntk", dtype), 2)
            for dtype in ("float32", "float64")
        )
        cells = []
        for closeness in CLOSENESS:
            found = []
            for seed in range(4):
                pair = near_pair(family, closeness, shape, np.random.default_rng(seed))
                if np.array_equal(*pair):
                    continue  # too close for float32 images
                error = pair_errors(of_pair(single, pair), of_pair(double, pair.astype(float)))
                distance = error.distance_error / max(error.distance, 1e-300)
                found.append((error.kernel, distance, error.gradient))
            worst = (f"{error:.0e}" for error in np.max(found, 0)) if found else "-"
            cells.append(" ".join(worst))
        print(f"{name} {family}: {' | '.join(cells)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architectures", default="convnet,convnet3,conv_vec2,myrtle5")
    parser.add_argument("--images", default="8x8x1,9x11x3,13x8x1,16x16x3")
    parser.add_argument("--near", metavar="ENGINE")
    options = parser.parse_args()
    if options.near:
        height, width, channels = map(int, options.images.split(",")[-1].split("x"))
        near_errors(options.near, options.architectures.split(","), (height, width, channels))
        return
    largest = {"float64": [0.0, 0.0], "float32": [0.0, 0.0]}
    for name, image, kind in itertools.product(
        options.architectures.split(","), options.images.split(","), ("ntk", "nngp")
    ):
        shape = tuple(int(side) for side in image.split("x"))
        for dtype in largest:
            spec = KernelSpec(architecture_named(name), kind, dtype)
            found = errors(make_engine("banded_cpu", spec, 2), spec, shape)
            print(f"{name:10} {image:8} {kind:4} {dtype}  K {found[0]:.1e}  vjp {found[1]:.1e}")
            largest[dtype] = [max(pair) for pair in zip(largest[dtype], found, strict=True)]
    for dtype, (kernel, vjp) in largest.items():
        print(f"largest in {dtype}: K {kernel:.1e}, vjp {vjp:.1e}")


if __name__ == "__main__":
    main()
