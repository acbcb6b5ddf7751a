"""The program of a GPU for one kernel, as NVRTC takes it: one text.

The device code is in `native/cuda/`; what is written here are the numbers of a plan, as types of
static constants.
"""

import dataclasses
import functools
import hashlib
import pathlib
import re

from kipper.workers import native
from kipper.workers.cuda_plan import KernelPlan, NetworkPlan, StagePlan
from kipper.workers.device import DeviceFunction

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
# As cuda-core's ProgramOptions has them. Functions are for the device unless they say otherwise, so
# that headers for CPUs need not. Suppressed are warnings of GCC's pragmas and of numbers that a
# program does not read.
STANDARD = "c++17"
SUPPRESSED = [161, 177]


def sources_hash() -> str:
    """A short hash of all that programs are written from but plans."""
    texts = [pathlib.Path(__file__).read_text(), *(path.read_text() for path in _HEADERS.values())]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:8]


def program(
    function: DeviceFunction,
    plan: KernelPlan,
    dtype: str,
    *,
    images: int,
    warps: int,
    blocks: int,
    shared: bool,
) -> str:
    """The program with a function, named without `_vjp`; arguments are those of `cross_program`."""
    if function == "sum_pairs":
        return sum_program(dtype, warps=warps)
    if function in ("cross", "cross_vjp"):
        return cross_program(plan, dtype, images=images, warps=warps, blocks=blocks, shared=shared)
    vjp = function == "variances_vjp"
    return variance_program(plan, dtype, vjp=vjp, warps=warps, blocks=blocks, shared=shared)


def cross_program(
    plan: KernelPlan, dtype: str, *, images: int, warps: int, blocks: int, shared: bool
) -> str:
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
    if images:
        arrays = "const number* cotangents, number* kept, number* sums"
        call = (
            f"cross_vjp_block<{common}, Input<number>(cotangents, batches.pairs()), "
            f"kept_of_pairs, workspace, sums, {images}, {place});"
        )
    else:
        arrays = "const number* weights, number* kernel, number* endangered, number* kept"
        call = (
            "Memory<number> kernels(kernel, batches.pairs()), judgements(endangered, "
            f"batches.pairs());\n    cross_block<{common}, Input<number>(weights, "
            "ThePlan::judged), workspace, Judged<number>{kernels, judgements}, "
            f"kept_of_pairs, {place});"
        )
    function = f"""\
cross(int count1, int count2, int kept_first, int kept_stride,
      const number* pixels1, const number* factors1, const int* places1,
      const number* pixels2, const number* factors2, const int* places2,
      {arrays}, number* scratch) {{
    using namespace kipper;
    {_workspace(shared)}
    const Batches<number> batches{{{{pixels1, factors1, places1, count1}},
                                   {{pixels2, factors2, places2, count2}}}};
    const Kept<number> kept_of_pairs{{kept, kept_first, kept_stride}};
    {call}
}}
"""
    header = "cross_vjp.hpp" if images else "cross.hpp"
    return _program(
        _types(plan), dtype, header, f"__launch_bounds__({32 * warps}, {blocks})", function
    )


def sum_program(dtype: str, *, warps: int) -> str:
    """The program with the function `sum_pairs`; arguments are those of `cross_program`."""
    function = """\
sum_pairs(int count1, int count2, int images, int side, int of_image, int first_image,
          const number* sums, number* totals) {
    using namespace kipper;
    const PairSums pairs{count1, count2, images, side, of_image};
    Block block;
    Memory<number> memory(totals, (first_image + (side ? count2 : count1)) * of_image);
    sum_pairs_block(block, pairs, Input<number>(sums, count1 * count2 * images * of_image), memory,
                    first_image, blockIdx.x, gridDim.x);
}
"""
    return _program("", dtype, "cross_vjp.hpp", f"__launch_bounds__({32 * warps})", function)


def variance_program(
    plan: KernelPlan, dtype: str, *, vjp: bool, warps: int, blocks: int, shared: bool
) -> str:
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
variances(int count, const number* scaled, const number* pixels,
          {"const number* cotangents, " if vjp else ""}number* variances,
          {"number* sums, " if vjp else ""}number* scratch) {{
    using namespace kipper;
    {_workspace(shared)}
    Memory<number> maps(variances, count * ThePlan::variances);
    {call}
}}
"""
    bounds = f"__launch_bounds__({32 * warps}, {blocks})"
    return _program(_types(plan), dtype, "variance_maps.hpp", bounds, function)


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


def _program(types: str, dtype: str, header: str, bounds: str, function: str) -> str:
    """The program with a function, from its name on, that needs some types."""
    number = {"float32": "float", "float64": "double"}[dtype]
    source = f"""\
#include "{header}"

namespace kipper {{
namespace {{

using number = {number};
{types}
}}  // namespace
}}  // namespace kipper

using kipper::number;

extern "C" __global__ void {bounds}
{function}"""
    return _with_headers(source, set())


def _with_headers(source: str, known: set[str]) -> str:
    """The text with what it includes in it, each header once; adds their names to `known`."""

    def included(line: re.Match[str]) -> str:
        name = line[1]
        if name in known:
            return ""
        known.add(name)
        return _with_headers(_header(name), known)

    return re.sub(r'^#include ["<](.*)[">]$', included, source, flags=re.MULTILINE)


@functools.cache
def _header(name: str) -> str:
    text = _STANDARD[name] if name in _STANDARD else _HEADERS[name].read_text()
    return text.replace("#pragma once\n", "")


def _types(plan: KernelPlan) -> str:
    """The types of a plan and of its stages."""
    names = [f"Stage{index}" for index in range(len(plan.stages))]
    types = [_constants("ThePlan", plan.rest), *map(_stage, names, plan.stages)]
    visits = [f"visit({name}{{}});" for name in names]
    return f"""\
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
"""


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
