"""Does KIP converge as well if the gradient of the images comes one step late?

    python benchmarks/one_step_late.py [--dataset=digits] [--architecture=convnet] [--steps=233]
        [--seeds=0,1,2]

Then K of a step and the vjp of the step before could share one phase, in which no worker waits for
the regression. Labels and the temperature follow their gradients at once, since they need no vjp.
Compares both recipes of `kipper distill --recipe`, as they are and late; prints what recipe.py
prints.
"""

import argparse
import contextlib
from collections.abc import Iterator
from unittest import mock

import numpy as np
import recipe

from kipper.server.distributed_kernel import DistributedKernel


@contextlib.contextmanager
def late_gradients() -> Iterator[None]:
    """Every gradient is that of the step before; the first is zero."""
    gradient = DistributedKernel.gradient
    before: dict[DistributedKernel, np.ndarray] = {}

    def late(self: DistributedKernel, k_ss: np.ndarray, k_ts: np.ndarray) -> np.ndarray:
        found = gradient(self, k_ss, k_ts)
        last = before.get(self, np.zeros_like(found))
        before[self] = found
        return last

    with mock.patch.object(DistributedKernel, "gradient", late):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--architecture", default="convnet")
    parser.add_argument("--preprocess", default="standard")
    parser.add_argument("--support_size", type=int, default=10)
    parser.add_argument("--steps", type=int, default=233)
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args(namespace=argparse.Namespace(data_dir=None, limit=None))
    seeds = [int(seed) for seed in options.seeds.split(",")]
    for name in ("paper", "fast"):
        for title, manner in (name, contextlib.nullcontext), (f"{name}, late", late_gradients):
            with manner():
                curves = [
                    recipe.curve(options, options.dataset, f"recipe={name}", s) for s in seeds
                ]
            recipe.print_row(recipe.summary(title, curves), options)


if __name__ == "__main__":
    main()
