"""Measures the native engine's time per pair against image side, depth and threads.

    python benchmarks/kernel_scaling.py [--sides=8,16,32,64] [--depths=1,2,4,8] [--json]

Images are square with three channels; the kernel is the float32 NTK, with 16 by 256 images per
block (fewer for expensive blocks), variance maps included. "vjp" is K and its vjp in one call. An
element, the unit of work, is one pixel pair of one ReLU layer; FLOPS is its arithmetic, counted in
the source. The reference is the rate of a large float32 matrix product on all cores.
"""

import argparse
import json
from typing import Any

import jax
import jax.numpy as jnp
from kernel_engines import engine_timing, seconds

from kipper.common.architecture import Architecture, KernelSpec, architecture_named
from kipper.common.cores import usable_cores
from kipper.workers.bands import BandedNetwork, banded_network
from kipper.workers.choice import make_engine

# Additions, multiplications, divisions and square roots per element, NTK, float32, counted in
# native/forward_rows.hpp, backward_rows.hpp and arc_cosine.hpp. Forward: box sums and bias 10,
# arc-cosine 29, factors and results 7. The vjp adds: pre-activations again 10, box sums of
# cotangents 8, arc-cosine with slopes 25, chain rule 17. Layers below the last of a stage run
# forward twice but are counted once.
FLOPS = {"forward": 46, "vjp": 106}
# The elements of a block that takes about a second.
MAX_ELEMENTS = 2e9


def elements(network: BandedNetwork) -> int:
    """The elements of a pair of images: pixel pairs within the band, over all ReLU layers."""
    total = 0
    for stage, size, band in zip(network.stages, network.sizes, network.bands, strict=False):
        pairs = 1
        for side, most in zip(size, band, strict=True):
            pairs *= sum(side - abs(offset) for offset in range(-most, most + 1))
        total += stage.convs * pairs
    return total


def measure(architecture: Architecture, side: int, threads: int) -> dict[str, Any]:
    spec = KernelSpec(architecture, "ntk", "float32")
    network = banded_network(architecture, side, side)
    assert network is not None
    engine = make_engine("banded_cpu", spec, threads)
    count = elements(network)
    num_targets = min(256, max(16, int(MAX_ELEMENTS / count) // 16 // 16 * 16))
    forward, vjp = engine_timing(engine, (side, side, 3), (16, num_targets), "float32", repeats=3)
    return {
        "architecture": architecture.name,
        "side": side,
        "threads": threads,
        "elements_per_pair": count,
        "forward_ms_per_pair": forward,
        "vjp_ms_per_pair": vjp,
        "forward_ns_per_element": 1e6 * forward / count,
        "vjp_ns_per_element": 1e6 * vjp / count,
        "forward_gflops": FLOPS["forward"] * count / forward / 1e6,
        "vjp_gflops": FLOPS["vjp"] * count / vjp / 1e6,
    }


def matrix_product_gflops() -> float:
    """The rate of XLA's matrix product on all cores."""
    side = 3072
    square = jnp.ones((side, side), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    return 2 * side**3 / seconds(lambda: product(square).block_until_ready(), repeats=5) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", default="8,16,32,64")
    parser.add_argument("--depths", default="1,2,4,8")
    parser.add_argument("--json", action="store_true", help="print JSON only, without the table")
    options = parser.parse_args()
    cores = usable_cores()
    cases = [("convnet", int(side), cores) for side in options.sides.split(",")]
    cases += [("convnet", 32, threads) for threads in range(1, cores)]
    cases += [(f"conv_vec{depth}", 32, cores) for depth in options.depths.split(",")]
    cases += [("myrtle5", 16, cores), ("myrtle5", 32, cores)]
    rows = [measure(architecture_named(name), side, threads) for name, side, threads in cases]
    peak = matrix_product_gflops()
    if not options.json:
        for row in rows:
            print(
                f"{row['architecture']:10} {row['side']:3}  {row['threads']} threads  "
                f"{row['elements_per_pair']:9} elements  "
                f"forward {row['forward_ms_per_pair']:9.5f} ms, "
                f"{row['forward_ns_per_element']:6.3f} ns per element, "
                f"{row['forward_gflops']:6.0f} GFLOP/s  "
                f"vjp {row['vjp_ms_per_pair']:9.5f} ms, {row['vjp_ns_per_element']:6.3f} ns, "
                f"{row['vjp_gflops']:6.0f} GFLOP/s"
            )
        print(f"matrix product {peak:.0f} GFLOP/s on {cores} cores")
    print(json.dumps({"cases": rows, "matrix_product_gflops": peak}))


if __name__ == "__main__":
    main()
