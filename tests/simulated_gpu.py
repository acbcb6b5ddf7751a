"""A GPU's kernels on the CPU: workers/native/cuda, compiled with g++ for warps of vectors.

Accesses of shared memory are checked, see native/cuda/simulated/lanes.hpp.
"""

import ctypes
import dataclasses
import os
import pathlib
import shlex
import subprocess

import numpy as np

from kipper.workers import native
from kipper.workers.cuda_plan import (
    KernelPlan,
    NetworkPlan,
    StagePlan,
    image_cotangents,
    image_factors,
    offset_weights,
    scaled_pixels,
)

_NATIVE = pathlib.Path(native.__file__).parent
CUDA = _NATIVE / "cuda"
SOURCE = CUDA / "simulated" / "simulated.cpp"
COMPILER = shlex.split(os.environ.get("CXX") or "g++")
INCLUDES = [f"-I{folder}" for folder in (CUDA / "simulated", CUDA, _NATIVE)]
# Vectors of 32 lanes have no customary way to be passed to functions, hence psabi.
FLAGS = (
    *("-std=c++17", "-fPIC", "-shared", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Werror", "-Wno-psabi"),
)


def _structure(name: str, plan: type, *more: tuple[str, type]) -> type[ctypes.Structure]:
    kinds = {int: ctypes.c_int, float: ctypes.c_double}
    fields = [(field.name, kinds[field.type]) for field in dataclasses.fields(plan)]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


_Stage, _Plan = _structure("Stage", StagePlan), _structure("Plan", NetworkPlan)


class _Launch(ctypes.Structure):
    _fields_ = (
        ("plan", ctypes.POINTER(_Plan)),
        ("stages", ctypes.POINTER(_Stage)),
        *((name, ctypes.c_int) for name in ("stage_count", "tangent", "images")),
        *((name, ctypes.c_int) for name in ("blocks", "warps", "count1", "count2")),
    )


class SimulatedGpu:
    """Launches of the kernels of a library that `build` made."""

    def __init__(self, library: pathlib.Path, *, blocks: int = 2, warps: int = 3):
        self._library = ctypes.CDLL(os.fspath(library))
        self._blocks, self._warps = blocks, warps

    def cross(
        self, plan: KernelPlan, x1: np.ndarray, v1: np.ndarray, x2: np.ndarray, v2: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(n1, n2), and which pairs are endangered; see `banded_cpu.judged_cross_kernel`."""
        kernel, endangered = np.full((2, len(x1), len(x2)), np.nan, x1.dtype)
        none = np.empty(0, x1.dtype)
        self._launch(plan, 0, [*_inputs(plan, x1, v1, x2, v2), none, kernel, endangered])
        return kernel, endangered > 0

    def cross_vjp(
        self,
        plan: KernelPlan,
        x1: np.ndarray,
        v1: np.ndarray,
        x2: np.ndarray,
        v2: np.ndarray,
        cotangent: np.ndarray,
        *,
        both: bool,
    ) -> tuple[np.ndarray, ...]:
        """As `banded_cpu.cross_kernel_vjp`."""
        images = 2 if both else 1
        of_image = plan.rest.pixel_values + plan.rest.variances
        kernel, endangered = np.full((2, len(x1), len(x2)), np.nan, x1.dtype)
        sums = np.full((len(x1), len(x2), images, of_image), np.nan, x1.dtype)
        inputs = [*_inputs(plan, x1, v1, x2, v2), np.ascontiguousarray(cotangent)]
        self._launch(plan, images, [*inputs, kernel, endangered, sums])
        pixels, variances = image_cotangents(plan, sums[:, :, 0], v1, first=True)
        pulled = [pixels.reshape(x1.shape), variances]
        if both:
            second = sums[:, :, 1].swapaxes(0, 1)
            pixels, variances = image_cotangents(plan, second, v2, first=False)
            pulled += [pixels.reshape(x2.shape), variances]
        return kernel, endangered > 0, *pulled

    def variance_maps(self, plan: KernelPlan, images: np.ndarray) -> np.ndarray:
        """As `banded_cpu.variance_maps`."""
        maps = np.full((len(images), plan.rest.variances), np.nan, images.dtype)
        inputs = [scaled_pixels(plan, images), images, maps]
        self._launch(plan, 0, [*inputs, maps], "launch_variances")
        return maps

    def variance_maps_vjp(
        self, plan: KernelPlan, images: np.ndarray, cotangent: np.ndarray
    ) -> np.ndarray:
        """As `banded_cpu.variance_maps_vjp`."""
        maps = np.full_like(cotangent, np.nan)
        of_image = plan.rest.pixel_values + plan.rest.variances
        sums = np.full((len(images), 2, of_image), np.nan, images.dtype)
        inputs = [scaled_pixels(plan, images), images, cotangent]
        self._launch(plan, 1, [*inputs, maps, sums], "launch_variances")
        first, second = (sums[:, side, : plan.rest.pixel_values] for side in (0, 1))
        return (scaled_pixels(plan, first) + second).reshape(images.shape)

    def _launch(
        self, plan: KernelPlan, images: int, arrays: list[np.ndarray], name: str = "launch"
    ) -> None:
        stages = (_Stage * len(plan.stages))(
            *(_Stage(*dataclasses.astuple(stage)) for stage in plan.stages)
        )
        launch = _Launch(
            ctypes.pointer(_Plan(*dataclasses.astuple(plan.rest))),
            stages,
            *(len(stages), plan.tangent, images, self._blocks, self._warps),
            *(len(arrays[0]), len(arrays[2])),
        )
        message = ctypes.create_string_buffer(256)
        pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))
        if getattr(self._library, f"{name}_{arrays[0].dtype}")(
            ctypes.byref(launch), pointers, message
        ):
            raise RuntimeError(message.value.decode())


def _inputs(
    plan: KernelPlan, x1: np.ndarray, v1: np.ndarray, x2: np.ndarray, v2: np.ndarray
) -> list[np.ndarray]:
    inputs = [
        *(scaled_pixels(plan, x1), image_factors(plan, v1, first=True)),
        *(x2, image_factors(plan, v2, first=False), offset_weights(plan, x1.dtype)),
    ]
    return [np.ascontiguousarray(array) for array in inputs]


def build(library: pathlib.Path, *flags: str) -> None:
    """Compiles the kernels."""
    command = [*COMPILER, *FLAGS, *INCLUDES, *flags, os.fspath(SOURCE), "-o", os.fspath(library)]
    subprocess.run(command, check=True)
