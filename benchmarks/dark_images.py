"""Counts pairs of dark images that float64 evaluates, and measures float32's errors in the others.

    python benchmarks/dark_images.py [--dataset=digits|mnist5k] [--architecture=convnet]
        [--images=120] [--brightness=1,0.25,0.0625] [--background=0] [--noise=0]

Black pixels become the background, a grey level from 0 to 1, and white ones become 1, or 0 if the
background is brighter than a half. A share `noise` of all values is made one of 255 grey levels
brighter.

Prints a row for each brightness, which then multiplies pixels: the share of the pairs of two halves
of so many images that are endangered, and the largest errors in the pairs that are not, against
float64: of K, relative to its largest entry, and of the gradient of a pair's entry with respect to
its second image, relative in the Euclidean norm; also how many of these gradients are off by more
than 1e-3.
"""

import argparse

import numpy as np

from kipper.common.architecture import architecture_named
from kipper.common.datasets.registry import load_dataset
from kipper.workers import banded_cpu
from kipper.workers.bands import BandedNetwork, banded_network
from kipper.workers.near_pairs import image_nearness


def gradients(
    network: BandedNetwork, x1: np.ndarray, x2: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """K (n, m), which pairs are endangered, and the gradients of K by x2: (n, m, values)."""
    v1, v2 = (banded_cpu.variance_maps(network, x) for x in (x1, x2))
    rows = []
    for image in range(len(x1)):
        one = slice(image, image + 1)
        kernel, endangered, _, _, by_x2, by_v2 = banded_cpu.cross_kernel_vjp(
            *(network, "ntk", x1[one], v1[one], x2, v2),
            np.ones((1, len(x2)), x1.dtype),
            both=True,
            threads=1,
        )
        slopes = by_x2 + banded_cpu.variance_maps_vjp(network, x2, by_v2)
        rows.append((kernel[0], endangered[0], slopes.reshape(len(x2), -1)))
    kernels, flags, found = zip(*rows, strict=True)
    return np.array(kernels), np.array(flags), np.array(found)


def flat_background(
    images: np.ndarray, level: float, noise: float, rng: np.random.Generator
) -> np.ndarray:
    """Images from 0 to 1 whose black pixels have a level and some noise."""
    contrast = 1 - level if level < 0.5 else -level
    brighter = rng.random(images.shape) < noise
    return np.clip(level + contrast * images + brighter / 255, 0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--architecture", default="convnet")
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--brightness", default="1,0.25,0.0625")
    parser.add_argument("--background", type=float, default=0.0)
    parser.add_argument("--noise", type=float, default=0.0)
    options = parser.parse_args()
    images = load_dataset(options.dataset, None).x_train
    rng = np.random.default_rng(0)
    drawn = images[rng.permutation(len(images))[: options.images]]
    halves = np.array_split(flat_background(drawn, options.background, options.noise, rng), 2)
    architecture = architecture_named(options.architecture)
    network = banded_network(architecture, *images.shape[1:3])
    assert network is not None
    print(f"| {options.dataset}, {options.architecture} | endangered | K | gradient | beyond |")
    print("| --- | --- | --- | --- | --- |")
    for brightness in map(float, options.brightness.split(",")):
        # The reference takes the same numbers.
        single = [(brightness * half).astype(np.float32) for half in halves]
        values, endangered, slopes = gradients(network, *single)
        exact, _, expected = gradients(network, *(half.astype(np.float64) for half in single))
        errors = np.linalg.norm(slopes - expected, axis=2) / np.linalg.norm(expected, axis=2)
        again = endangered | image_nearness(*single, architecture).near
        left = ~again
        print(
            f"| brightness {brightness:g} | {100 * again.mean():.1f} % |",
            f"{np.abs(values - exact)[left].max(initial=0) / np.abs(exact).max():.0e} |",
            f"{errors[left].max(initial=0):.0e} | {np.sum(errors[left] > 1e-3)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
