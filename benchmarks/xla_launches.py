"""Counts what `banded_xla` asks of an accelerator, by compiling for one that need not be there.

    pip install jax libtpu jax-cuda13-pjrt jax-cuda13-plugin nvidia-cuda-nvcc  # its bin/ on PATH
    JAX_PLATFORMS=cpu python benchmarks/xla_launches.py --target=cuda|tpu|cpu [--one_by_one]

XLA compiles for an H100 (`--target=cuda`) or a TPU v5e (`--target=tpu`) without either. Of the
compiled program this counts the kernels that are launched, loops by their trips; the bytes that
they read and write, each operand once, of sliced and updated arrays the slices; `memory_mb`, what
XLA plans to hold; for TPUs the cycles that the compiler estimates; and scatters, which on GPUs
would add in an order that changes. Nothing is run, so that nothing here is a time.
"""

import argparse
import functools
import json
import math
import pathlib
import re
from collections.abc import Callable
from typing import Literal

import jax
import numpy as np
from jax import Array
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from kipper.common.architecture import architecture_named
from kipper.workers import banded_xla
from kipper.workers.bands import BandedNetwork, banded_network

Target = Literal["cuda", "tpu", "cpu"]

# What XLA wants to know of an H100 SXM, from NVIDIA's data sheet and the CUDA programming guide.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  device_vendor: "NVIDIA Corporation" device_address_bits: 64 name: "NVIDIA H100 80GB HBM3"
  driver_version: "13.0.0" runtime_version: "12.8.0" compile_time_toolkit_version: "12.8.0"
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 9 patch: 4 }
"""
_BYTES = {"f64": 8, "s64": 8, "u64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "pred": 1}
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional"),
    *("opt-barrier", "optimization-barrier", "after-all", "partition-id", "iota", "call"),
}
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?(%?[\w.-]+) = (.*?) ([\w-]+)\((.*)$")
_ARRAY = re.compile(r"\b(\w+)\[([\d,]*)\]")


def device_of(target: Target) -> jax.Device:
    """A device to compile for."""
    jax.devices()  # plugins are found
    if target == "cpu":
        return jax.devices("cpu")[0]
    if target == "tpu":
        return topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices[0]
    return topologies.get_topology_desc(
        platform="cuda", topology_name="h100", target_config=_H100, topology="1x1x1"
    ).devices[0]


def _bytes_in(shape: str) -> int:
    arrays = _ARRAY.findall(shape)
    return sum(
        _BYTES.get(kind, 4) * math.prod(int(side) for side in sides.split(",") if side)
        for kind, sides in arrays
    )


class Program:
    """The text of a compiled program, by computation."""

    def __init__(self, text: str):
        self._lines: dict[str, list[str]] = {}
        self.entry = ""
        name = ""
        for line in text.splitlines():
            if line.endswith("{") and not line.startswith(" "):
                words = line.split()
                name = words[1] if words[0] == "ENTRY" else words[0]
                self._lines[name] = []
                self.entry = name if words[0] == "ENTRY" else self.entry
            elif name:
                self._lines[name].append(line)

    def cost(self, computation: str | None = None) -> np.ndarray:
        """[kernels launched, bytes that they read and write, estimated cycles]."""
        total = np.zeros(3, np.int64)
        sizes: dict[str, int] = {}
        for line in self._lines[computation or self.entry]:
            found = _INSTRUCTION.match(line)
            if found is None:
                continue
            name, shape, operation, rest = found.groups()
            sizes[name] = _bytes_in(shape)
            if operation == "while":
                total += self._trips(rest) * self.cost(_called(rest, "body"))
            elif operation == "call":
                total += self.cost(_called(rest, "to_apply"))
            elif operation not in _FREE:
                read = [sizes.get(operand, 0) for operand in _operands(rest)]
                if operation == "fusion":
                    moved = self._moved(_called(rest, "calls"), sizes[name], read)
                else:
                    moved = sizes[name] + sum(read)
                cycles = re.search(r'"estimated_cycles":"(\d+)"', rest)
                total += [1, moved, int(cycles[1]) if cycles else 0]
        return total

    def _trips(self, loop: str) -> int:
        known = re.search(r'known_trip_count":{"n":"(\d+)', loop)
        if known is not None:
            return int(known[1])
        # As from `lax.map`: up from 0, as long as less than a constant.
        constants = re.findall(
            r"constant\((\d+)\)", "".join(self._lines[_called(loop, "condition")])
        )
        assert len(constants) == 1, loop
        return int(constants[0])

    def _moved(self, fused: str, written: int, read: list[int]) -> int:
        """The bytes that a fused kernel moves: of an array that it slices or updates, the slice."""
        lines = map(_INSTRUCTION.match, self._lines[fused])
        inner = {found[1]: (found[2], found[3], found[4]) for found in lines if found}
        for name, (shape, operation, arguments) in inner.items():
            if operation == "parameter":
                users = [user for user in inner.values() if name in _operands(user[2])]
                if users and all(user[1] == "dynamic-slice" for user in users):
                    read[int(arguments.split(")")[0])] = sum(_bytes_in(user[0]) for user in users)
            if operation == "dynamic-update-slice":
                target, update, *_ = _operands(arguments)
                while inner[target][1] in ("bitcast", "copy"):
                    target = _operands(inner[target][2])[0]
                if inner[target][1] == "parameter":
                    read[int(inner[target][2].split(")")[0])] = 0
                written += _bytes_in(inner[update][0]) - _bytes_in(shape)
        return written + sum(read)


def _operands(arguments: str) -> list[str]:
    return re.findall(r"%[\w.-]+", arguments.split("), ")[0])


def _called(rest: str, what: str) -> str:
    found = re.search(rf"{what}=(%?[\w.-]+)", rest)
    assert found is not None
    return found.group(1)


def functions(network: BandedNetwork, kind: str, at_once: bool) -> dict[str, Callable[..., object]]:
    """What a worker compiles: K, and K with the cotangents of the first images or of both sides."""
    cross = functools.partial(banded_xla.judged_cross_kernel, network, kind, at_once=at_once)
    if at_once:
        pulled = functools.partial(banded_xla.cross_kernel_vjp_at_once, network, kind)
        by_both = {both: functools.partial(pulled, both=both) for both in (False, True)}
        return {"K": cross, "K with vjp": by_both[False], "K with vjp of both": by_both[True]}

    def vjp(x1: Array, v1: Array, x2: Array, v2: Array, cotangent: Array) -> object:
        kernel, pull, near = jax.vjp(lambda x, v: cross(x, v, x2, v2), x1, v1, has_aux=True)
        return kernel, near, pull(cotangent)

    def vjp_both(x1: Array, v1: Array, x2: Array, v2: Array, cotangent: Array) -> object:
        kernel, pull, near = jax.vjp(cross, x1, v1, x2, v2, has_aux=True)
        return kernel, near, pull(cotangent)

    return {"K": cross, "K with vjp": vjp, "K with vjp of both": vjp_both}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=("cuda", "tpu", "cpu"), default="cuda")
    parser.add_argument("--architecture", default="convnet")
    parser.add_argument("--kind", default="ntk")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--block", type=int, nargs=2, default=(32, 256))
    parser.add_argument("--one_by_one", action="store_true", help="offset by offset, as on CPUs")
    parser.add_argument("--text", help="a file for the compiled programs")
    options = parser.parse_args()
    device = device_of(options.target)
    network = banded_network(architecture_named(options.architecture), options.side, options.side)
    assert network is not None
    n, m = options.block
    image = (options.side, options.side, options.channels)
    shapes = [(n, *image), (n, network.variances_per_image), (m, *image)]
    shapes += [(m, network.variances_per_image), (n, m)]
    arrays = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    for name, function in functions(network, options.kind, not options.one_by_one).items():
        inputs = arrays[:4] if name == "K" else arrays
        jitted = jax.jit(function, in_shardings=SingleDeviceSharding(device))
        compiled = jitted.lower(*inputs).compile()
        text = compiled.as_text()
        assert text is not None
        if options.text:
            pathlib.Path(f"{options.text}.{name.replace(' ', '_')}").write_text(text)
        kernels, moved, cycles = Program(text).cost() / (n * m)
        plan = compiled.memory_analysis()
        report = {
            "function": name,
            "kernels_per_pair": round(kernels, 3),
            "kb_per_pair": round(moved / 1e3),
            "cycles_per_pair": round(cycles) or None,
            "memory_mb": round(plan.temp_size_in_bytes / 1e6) if plan else None,
            "scatters": text.count(" scatter("),
        }
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
