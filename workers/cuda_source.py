"""The program of a GPU for one kernel, as NVRTC takes it: texts by the names they include.

The device code is in `native/cuda/`; what is written here are the numbers of a plan, as types of
static constants.
"""

import dataclasses
import pathlib
from typing import NamedTuple

from kipper.workers import native
from kipper.workers.cuda_plan import KernelPlan, NetworkPlan, StagePlan

_NATIVE = pathlib.Path(native.__file__).parent
# By the names under which the sources include each other.
_HEADERS = {
    **{path.name: path for path in sorted((_NATIVE / "cuda").glob("*.hpp"))},
    "lanes.hpp": _NATIVE / "cuda" / "device" / "lanes.hpp",
    **{name: _NATIVE / name for name in ("arc_cosine.hpp", "near_patches.hpp")},
}
# What is used of the standard library, whose headers NVRTC lacks.
_STANDARD = {
    "cstddef": "#pragma once\nnamespace std {\nusing size_t = decltype(sizeof(0));\n}\n",
    "array": """\
#pragma once
#include <cstddef>
namespace std {
template <class T, size_t kSize>
struct array {
    constexpr size_t size() const { return kSize; }
    constexpr const T& operator[](size_t index) const { return elements[index]; }
    constexpr T& operator[](size_t index) { return elements[index]; }
    T elements[kSize];
};
}
""",
    "limits": """\
#pragma once
namespace std {
template <class T>
struct numeric_limits {
    static T infinity() { return T(__longlong_as_double(0x7ff0000000000000)); }
};
}
""",
}
# Functions are for the device unless they say otherwise, so that headers for CPUs need not.
# Suppressed are warnings of GCC's pragmas and of numbers that a program does not read.
OPTIONS = (
    *("--std=c++17", "--device-as-default-execution-space"),
    "--diag-suppress=161,177",
)


class CudaProgram(NamedTuple):
    """A program, the texts that it includes by name, and NVRTC's options besides the processor."""

    source: str
    headers: dict[str, str]
    options: tuple[str, ...]


def cross_program(
    plan: KernelPlan, dtype: str, *, images: int, warps: int, blocks: int, shared: bool
) -> CudaProgram:
    """The program with the function `cross`, whose parameters are written below.

    Args:
        plan: the kernel.
        dtype: `float32` or `float64`.
        images: of each pair, whose cotangents are wanted: 0, 1 or 2.
        warps: in a block.
        blocks: that a multiprocessor should hold at once, which limits the registers of a thread.
        shared: whether the workspace is in shared memory; otherwise the caller gives each block its
            part of an array.
    """
    common = f"{str(plan.tangent).lower()}, number>(block, ThePlan{{}}, Stages{{}}, batches"
    place = "blockIdx.x, gridDim.x"
    call = (
        f"cross_vjp_block<{common}, Input<number>(cotangents, batches.pairs()), workspace, "
        f"results, sums, {images}, {place});"
        if images
        else f"cross_block<{common}, workspace, results, {place});"
    )
    function = f"""\
cross(const number* pixels1, const number* factors1, int count1, const number* pixels2,
      const number* factors2, int count2, const number* weights, const number* cotangents,
      number* kernel, number* endangered, number* sums, number* scratch) {{
    using namespace kipper;
    {_workspace(shared)}
    const Batches<number> batches{{{{pixels1, factors1, count1}}, {{pixels2, factors2, count2}},
                                   {{weights, ThePlan::judged}}}};
    Memory<number> kernels(kernel, batches.pairs()), judgements(endangered, batches.pairs());
    const Judged<number> results{{kernels, judgements}};
    {call}
}}
"""
    header = "cross_vjp.hpp" if images else "cross.hpp"
    return _program(plan, dtype, header, f"__launch_bounds__({32 * warps}, {blocks})", function)


def sum_program(plan: KernelPlan, dtype: str, *, images: int, warps: int) -> CudaProgram:
    """The program with the function `sum_pairs`; arguments are those of `cross_program`."""
    function = f"""\
sum_pairs(const number* sums, int count1, int count2, int side, int first_image, number* totals) {{
    using namespace kipper;
    constexpr int kOfImage = ThePlan::pixel_values + ThePlan::variances;
    const PairSums pairs{{count1, count2, {images}, side, kOfImage}};
    Block block;
    Memory<number> memory(totals, (first_image + (side ? count2 : count1)) * kOfImage);
    sum_pairs_block(block, pairs, Input<number>(sums, count1 * count2 * {images} * kOfImage),
                    memory, first_image, blockIdx.x, gridDim.x);
}}
"""
    return _program(plan, dtype, "cross_vjp.hpp", f"__launch_bounds__({32 * warps})", function)


def variance_program(
    plan: KernelPlan, dtype: str, *, vjp: bool, warps: int, blocks: int, shared: bool
) -> CudaProgram:
    """The program with the function `variances`, for a plan of variance maps.

    Other arguments are those of `cross_program`; with `vjp` also cotangents are pulled back.
    """
    images = "block, ThePlan{}, Stages{}, scaled, pixels, count"
    place = "blockIdx.x, gridDim.x"
    call = (
        f"variance_vjp_block({images}, Input<number>(cotangents, count * ThePlan::variances), "
        f"workspace, maps, sums, {place});"
        if vjp
        else f"variance_block({images}, workspace, maps, {place});"
    )
    function = f"""\
variances(const number* scaled, const number* pixels, int count, const number* cotangents,
          number* variances, number* sums, number* scratch) {{
    using namespace kipper;
    {_workspace(shared)}
    Memory<number> maps(variances, count * ThePlan::variances);
    {call}
}}
"""
    bounds = f"__launch_bounds__({32 * warps}, {blocks})"
    return _program(plan, dtype, "variance_maps.hpp", bounds, function)


def _workspace(shared: bool) -> str:
    """The block and its workspace."""
    numbers = (
        "extern __shared__ double shared[]; number* const numbers = (number*)shared;"
        if shared
        else "number* const numbers = scratch + std::size_t(blockIdx.x) * ThePlan::workspace;"
    )
    return (
        f"{numbers}\n    Block block;\n    Memory<number> workspace(numbers, ThePlan::workspace);"
    )


def _program(plan: KernelPlan, dtype: str, header: str, bounds: str, function: str) -> CudaProgram:
    """The program with a function, from its name on."""
    names = [f"Stage{index}" for index in range(len(plan.stages))]
    types = [_constants("ThePlan", plan.rest), *map(_stage, names, plan.stages)]
    visits = [f"visit({name}{{}});" for name in names]
    number = {"float32": "float", "float64": "double"}[dtype]
    source = f"""\
#include "{header}"

namespace kipper {{
namespace {{

using number = {number};
{"".join(types)}
struct Stages {{
    template <class Visit>
    KIPPER_INLINE void forward(Visit visit) const {{
        {" ".join(visits)}
    }}
    template <class Visit>
    KIPPER_INLINE void backward(Visit visit) const {{
        {" ".join(reversed(visits))}
    }}
}};

}}  // namespace
}}  // namespace kipper

using kipper::number;

extern "C" __global__ void {bounds}
{function}"""
    headers = {name: path.read_text() for name, path in _HEADERS.items()}
    return CudaProgram(source, {**headers, **_STANDARD}, OPTIONS)


def _stage(name: str, stage: StagePlan) -> str:
    """The type of a stage, whose arrays have the sizes that it needs."""
    sizes = {"kLevels": stage.convs, "kColumns": stage.columns}
    return _constants(name, stage, sizes)


def _constants(name: str, plan: StagePlan | NetworkPlan, more: dict[str, int] | None = None) -> str:
    kinds = {int: "int", float: "double"}
    values = {**(more or {}), **dataclasses.asdict(plan)}
    lines = "".join(
        f"    static constexpr {kinds[type(value)]} {key} = {value!r};\n"
        for key, value in values.items()
    )
    return f"struct {name} {{\n{lines}}};\n"
