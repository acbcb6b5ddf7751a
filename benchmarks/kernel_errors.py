"""Measures errors of the native engine against neural-tangents in float64, over a grid.

    python benchmarks/kernel_errors.py [--architectures=convnet,convnet3,conv_vec2,myrtle5]
        [--images=8x8x1,9x11x3,13x8x1,16x16x3]

Covers both kernels and both dtypes: K and its vjp with respect to the first images, relative to the
largest entry, on 3 by 5 images that differ. Prints a line per case, and the largest errors.
"""

import argparse
import itertools

from kernel_engines import errors

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.workers.choice import make_engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architectures", default="convnet,convnet3,conv_vec2,myrtle5")
    parser.add_argument("--images", default="8x8x1,9x11x3,13x8x1,16x16x3")
    options = parser.parse_args()
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
