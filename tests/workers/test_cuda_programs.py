"""The programs of GPUs, compiled for real processors without one: what they need and how long.

What they compute is tested in test_simulated_gpu.py.
"""

import nvrtc
import pytest

from kipper.common.architecture import architecture_named
from kipper.workers.bands import banded_network
from kipper.workers.cuda_plan import kernel_plan, variance_plan
from kipper.workers.cuda_source import cross_program, sum_program, variance_program

PROCESSORS = {70: "V100", 80: "A100", 90: "H100", 100: "B200"}
REGISTERS = 65536  # of a multiprocessor, of all of them
CHANNELS = 3

pytestmark = pytest.mark.thorough  # seconds a program


def _compiled(name, side, dtype, images, processor, *, kind="ntk", warps, blocks, shared=True):
    if nvrtc.compiler_for(processor) is None:
        pytest.skip(f"no NVRTC that compiles for sm_{processor} is installed; see tests/nvrtc.py")
    network = banded_network(architecture_named(name), side, side)
    plan = kernel_plan(network, CHANNELS, tangent=kind == "ntk", dtype=dtype)
    return nvrtc.compiled(
        cross_program(plan, dtype, images=images, warps=warps, blocks=blocks, shared=shared),
        processor,
    )


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize(("images", "warps"), [(0, 10), (1, 8), (2, 8)])
def test_sixteen_warps_fit_a_multiprocessor_without_spills(processor, images, warps):
    binary = _compiled("convnet", 32, "float32", images, processor, warps=warps, blocks=2)
    assert binary.spilled_bytes == 0
    assert binary.registers * 32 * warps * 2 <= REGISTERS


@pytest.mark.parametrize(
    ("name", "side", "dtype", "images", "kind"),
    [
        ("myrtle5", 32, "float32", 2, "ntk"),
        ("convnet3", 28, "float64", 2, "nngp"),
        ("conv_vec20", 16, "float32", 1, "ntk"),  # states in memory
        ("convnet", 128, "float32", 2, "ntk"),  # four columns a lane
        ("convnet", 33, "float64", 0, "ntk"),
    ],
)
def test_other_programs_compile(name, side, dtype, images, kind):
    options = {"kind": kind, "warps": 8, "blocks": 1}
    _compiled(name, side, dtype, images, 90, shared=False, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("vjp", [False, True])
def test_programs_of_variance_maps_compile(vjp, dtype):
    if nvrtc.compiler_for(90) is None:
        pytest.skip("no NVRTC is installed; see tests/nvrtc.py")
    plan = variance_plan(banded_network(architecture_named("convnet"), 32, 32), CHANNELS)
    program = variance_program(plan, dtype, vjp=vjp, warps=8, blocks=1, shared=True)
    binary = nvrtc.compiled(program, 90)
    assert binary.spilled_bytes == 0
    assert binary.registers * 32 * 8 <= REGISTERS


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_programs_that_add_up_pairs_compile(dtype):
    if nvrtc.compiler_for(90) is None:
        pytest.skip("no NVRTC is installed; see tests/nvrtc.py")
    binary = nvrtc.compiled(sum_program(dtype, warps=8), 90)
    assert binary.spilled_bytes == 0


def test_rows_take_the_instructions_that_docs_gpu_says(tmp_path):
    """A row of 32 pixel pairs of a layer of convnet's first stage, with two layers.

    Two rows of 32 are judged too, besides those at offset (0, 0).
    """
    if nvrtc.disassembler() is None:
        pytest.skip("nvdisasm is not installed; see tests/nvrtc.py")
    levels = 2
    forward = nvrtc.loops(_compiled("convnet", 32, "float32", 0, 90, warps=10, blocks=2), tmp_path)
    march = _with_most_arithmetic(_innermost(forward))
    assert march.counts["MUFU"] == 2 * levels  # half of them divide, to judge
    judging = march.apart / levels
    row = len(march) / levels - judging
    assert row + judging * 2 / 32 <= 100

    both = nvrtc.loops(_compiled("convnet", 32, "float32", 2, 90, warps=8, blocks=2), tmp_path)
    steps = [loop for loop in both if loop.counts["BAR"] == 1 and loop.counts["MUFU"] == 2 * levels]
    step = min(steps, key=len)  # the loops around it have the same barrier
    inside = [loop for loop in both if step.contains(loop)]
    tasks = max(inside, key=len)
    additions = [loop for loop in _innermost(inside) if loop.counts["LDS"] == loop.counts["LDG"]]
    of_offset = max(len(loop) / loop.counts["LDS"] for loop in additions)
    # For each level of each image, and for each channel.
    adding = (2 * levels + 2 * CHANNELS) * of_offset
    backward = (len(step) - len(tasks) + adding) / levels
    print(f"forward {row}, judgement of a row {judging}, backward {backward}")
    assert row + backward <= 300


def _innermost(found):
    return [loop for loop in found if not any(loop.contains(other) for other in found)]


def _with_most_arithmetic(found):
    return max(found, key=lambda loop: loop.counts["FFMA"] + loop.counts["FADD"])
