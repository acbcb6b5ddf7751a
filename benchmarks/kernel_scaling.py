"""Measures how the native engine's time and memory grow, in one run of some minutes.

    python benchmarks/kernel_scaling.py [--sides=8,16,32,64,128] [--depths=1,2,4,8]
        [--channels=1,3,16,64] [--pairs=1x1,1x10,10x100,100x100] [--others=myrtle5:16,…]
        [--json=PATH]

Images are square; the kernel is the float32 NTK. By image side, by threads, by depth and by
channels, blocks have 16 by 256 images of three channels (fewer for expensive blocks), variance maps
included. By pairs, `kipper.kernel` and `kipper.kernel_vjp` themselves are measured, on images of
8x8x1. "vjp" is K and its vjp in one call. An element, the unit of work, is one pixel pair of one
ReLU layer; FLOPS is its arithmetic, counted in the source. Memory is what the process's largest
size grew by during the calls. The reference is the rate of a large float32 matrix product on all
cores. Prints Markdown tables.
"""

import argparse
import ctypes
import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from kernel_engines import engine_timing, images, seconds

import kipper
from kipper.common.architecture import Architecture, KernelSpec, architecture_named
from kipper.common.cores import usable_cores
from kipper.workers.bands import BandedNetwork, banded_network
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages

# Additions, multiplications, divisions and square roots per element, NTK, float32, counted in
# native/forward_rows.hpp, backward_rows.hpp and arc_cosine.hpp. Forward: box sums and bias 10,
# arc-cosine 22, factors and results 7. The vjp adds: pre-activations, arc-cosine and factors again
# 35, box sums of cotangents 8, chain rule 12.
FLOPS = {"forward": 39, "vjp": 94}
# The elements of a block that takes a quarter of a second.
MAX_ELEMENTS = 5e8


def elements(network: BandedNetwork) -> int:
    """The elements of a pair of images: pixel pairs within the band, over all ReLU layers."""
    total = 0
    for stage, size, band in zip(network.stages, network.sizes, network.bands, strict=False):
        pairs = 1
        for side, most in zip(size, band, strict=True):
            pairs *= sum(side - abs(offset) for offset in range(-most, most + 1))
        total += stage.convs * pairs
    return total


@dataclasses.dataclass(frozen=True)
class Case:
    """A point of a table: what varies, and the block that is measured."""

    label: str
    architecture: Architecture
    side: int
    channels: int = 3
    threads: int = 0  # all cores


@dataclasses.dataclass(frozen=True)
class Row:
    """What a pair costs, in milliseconds, and what a block adds to the process, in megabytes."""

    section: str
    label: str
    elements: int
    block: str
    forward_ms: float
    vjp_ms: float
    forward_mb: float
    vjp_mb: float

    @property
    def forward_gflops(self) -> float:
        return FLOPS["forward"] * self.elements / self.forward_ms / 1e6

    @property
    def vjp_gflops(self) -> float:
        return FLOPS["vjp"] * self.elements / self.vjp_ms / 1e6


def measure(section: str, case: Case) -> Row:
    spec = KernelSpec(case.architecture, "ntk", "float32")
    network = banded_network(case.architecture, case.side, case.side)
    assert network is not None
    engine = make_engine("banded_cpu", spec, case.threads or usable_cores())
    count = elements(network)
    num_targets = min(256, max(16, int(MAX_ELEMENTS / count) // 16 // 16 * 16))
    sizes = min(16, max(2, int(MAX_ELEMENTS / count / num_targets))), num_targets
    shape = (case.side, case.side, case.channels)
    x1, x2 = images(shape, sizes[0], 0, "float32"), images(shape, sizes[1], 1, "float32")

    def prepared() -> tuple[Any, Any]:
        first, second = (PreparedImages(x, engine.features(x)) for x in (x1, x2))
        return first, second

    forward_mb = growth(lambda: engine.block(*prepared()))
    vjp_mb = growth(lambda: engine.block_vjp(*prepared(), np.ones(sizes, np.float32), both=False))
    forward, vjp = engine_timing(engine, shape, sizes, "float32", repeats=3)
    return Row(
        section, case.label, count, f"{sizes[0]} x {sizes[1]}", forward, vjp, forward_mb, vjp_mb
    )


def measure_pairs(sizes: tuple[int, int]) -> Row:
    """`kipper.kernel` itself, from arrays to arrays."""
    x1, x2 = (images((8, 8, 1), count, count, "float32") for count in sizes)
    cotangent = np.ones(sizes, np.float32)
    network = banded_network(architecture_named("convnet"), 8, 8)
    assert network is not None

    def forward() -> None:
        kipper.kernel(x1, x2)

    def vjp() -> None:
        kipper.kernel_vjp(x1, x2, cotangent)

    forward()
    forward_mb, vjp_mb = growth(forward), growth(vjp)
    pairs = sizes[0] * sizes[1]
    repeats = max(5, min(200, 2000 // pairs))
    forward_ms, vjp_ms = (1e3 * seconds(call, repeats) / pairs for call in (forward, vjp))
    label = f"{sizes[0]} x {sizes[1]}"
    return Row("pairs", label, elements(network), label, forward_ms, vjp_ms, forward_mb, vjp_mb)


def growth(call: Callable[[], Any]) -> float:
    """The megabytes by which the largest size of this process grew during a call."""
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the largest size is that of now
    before = _largest_megabytes()
    call()
    return _largest_megabytes() - before


def _largest_megabytes() -> float:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))


def matrix_product_gflops() -> float:
    """The rate of XLA's matrix product on all cores."""
    side = 3072
    square = jnp.ones((side, side), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    return 2 * side**3 / seconds(lambda: product(square).block_until_ready(), repeats=5) / 1e9


def cases(options: argparse.Namespace) -> list[tuple[str, Case]]:
    convnet, cores = architecture_named("convnet"), usable_cores()
    found = [("side", Case(f"{side} x {side}", convnet, side)) for side in numbers(options.sides)]
    found += [
        ("threads", Case(str(threads), convnet, 32, threads=threads))
        for threads in range(1, cores + 1)
    ]
    found += [
        ("depth", Case(f"conv_vec{depth}, 32 x 32", architecture_named(f"conv_vec{depth}"), 32))
        for depth in numbers(options.depths)
    ]
    found += [
        ("channels", Case(str(channels), convnet, 32, channels=channels))
        for channels in numbers(options.channels)
    ]
    for other in filter(None, options.others.split(",")):
        name, side = other.split(":")
        label = f"{name}, {side} x {side}"
        found.append(("depth", Case(label, architecture_named(name), int(side))))
    return found


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


TITLES = {
    "side": "image side (convnet)",
    "threads": "threads (convnet, 32 x 32)",
    "depth": "network",
    "channels": "channels (convnet, 32 x 32)",
    "pairs": "images (`kipper.kernel`, convnet, 8 x 8 x 1)",
}


def table(section: str, rows: list[Row]) -> str:
    """The rows of a section in Markdown."""
    lines = [
        f"| {TITLES[section]} | elements | K, ms per pair | ns per element | GFLOP/s "
        "| K with vjp, ms | ns | GFLOP/s | block | MB | MB with vjp |",
        "|" + " --- |" * 11,
    ]
    lines += [
        f"| {row.label} | {row.elements:,} | {row.forward_ms:.3g} "
        f"| {1e6 * row.forward_ms / row.elements:.2f} | {row.forward_gflops:.0f} "
        f"| {row.vjp_ms:.3g} | {1e6 * row.vjp_ms / row.elements:.2f} | {row.vjp_gflops:.0f} "
        f"| {row.block} | {row.forward_mb:.1f} | {row.vjp_mb:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", default="8,16,32,64,128")
    parser.add_argument("--depths", default="1,2,4,8")
    parser.add_argument("--channels", default="1,3,16,64")
    parser.add_argument("--pairs", default="1x1,1x10,10x100,100x100")
    parser.add_argument(
        "--others", default="convnet3:32,convnet4:64,convnet_gap:32,myrtle5:16,myrtle5:32"
    )
    parser.add_argument("--json", help="write the rows to this file, too")
    options = parser.parse_args()
    found = cases(options)
    rows: list[Row] = []
    for section in TITLES:
        if section == "pairs":
            sizes = [[int(count) for count in pair.split("x")] for pair in options.pairs.split(",")]
            some = [measure_pairs((first, second)) for first, second in sizes]
        else:
            some = [measure(section, case) for where, case in found if where == section]
        print(table(section, some) + "\n", flush=True)
        rows += some
    peak = matrix_product_gflops()
    print(f"A matrix product runs at {peak:.0f} GFLOP/s on {usable_cores()} cores.")
    if options.json:
        everything = {
            "matrix_product_gflops": peak,
            "rows": [dataclasses.asdict(row) for row in rows],
        }
        pathlib.Path(options.json).write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    main()
