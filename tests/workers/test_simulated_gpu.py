"""The program of a GPU, compiled for the CPU, against neural-tangents and `banded_cpu`."""

import ctypes
import dataclasses
import importlib
import os
import pathlib
import subprocess

import jax
import numpy as np
import pytest
import simulated_gpu
from installation import needs_neural_tangents
from near_images import CLOSENESS, FAMILIES
from oracle import reference_kernel, relative_error
from simulated_gpu import SimulatedGpu

from kipper.common.architecture import Architecture, KernelSpec, architecture_named
from kipper.common.precision import enable_x64
from kipper.workers import banded_cpu, banded_cpu_engine, banded_cuda_engine
from kipper.workers.banded_cuda import BandedCuda, variance_maps, variance_maps_vjp
from kipper.workers.bands import banded_network
from kipper.workers.cuda_plan import LARGEST_SIDE, kernel_plan
from kipper.workers.engine import PreparedImages
from kipper.workers.resident_images import Residency

# The reference of most tests.
pytestmark = pytest.mark.skipif(
    banded_cpu.unavailable() is not None, reason=str(banded_cpu.unavailable())
)

PROBLEMS = [
    ("convnet", (9, 11, 3), "nngp"),
    ("convnet3", (13, 8, 1), "ntk"),
    ("convnet", (32, 32, 3), "ntk"),
    ("conv_vec1", (1, 1, 2), "ntk"),  # the smallest image
    ("conv_vec20", (6, 33, 1), "ntk"),  # two columns a lane
    ("convnet", (8, 70, 2), "ntk"),  # four
    ("convnet3", (8, 128, 1), "nngp"),
    ("myrtle10", (13, 9, 1), "ntk"),
]


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return simulated_gpu.shared_library(tmp_path_factory)


def _problem(name, shape, dtype, counts=(2, 3)):
    """A network, images with their variance maps, and a cotangent."""
    rng = np.random.default_rng(0)
    network = banded_network(architecture_named(name), *shape[:2])
    x1, x2 = (rng.normal(size=(count, *shape)).astype(dtype) for count in counts)
    v1, v2 = (banded_cpu.variance_maps(network, x) for x in (x1, x2))
    return network, (x1, v1, x2, v2), rng.normal(size=counts).astype(dtype)


def judged_cross_kernel(gpu, network, kind, x1, v1, x2, v2):
    sides = PreparedImages(x1, v1), PreparedImages(x2, v2)
    return BandedCuda(Residency(gpu), kind).judged_cross_kernel(network, *sides)


def cross_kernel_vjp(gpu, network, kind, x1, v1, x2, v2, cotangent, *, both):
    sides = PreparedImages(x1, v1), PreparedImages(x2, v2)
    return BandedCuda(Residency(gpu), kind).cross_kernel_vjp(network, *sides, cotangent, both=both)


@needs_neural_tangents
@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("convnet", (8, 9, 3), "ntk"),
        pytest.param("myrtle5", (4, 4, 2), "nngp", marks=pytest.mark.thorough),
    ],
)
def test_float64_is_neural_tangents_with_both_gradients(library, name, shape, kind):
    network, images, cotangent = _problem(name, shape, "float64")
    gpu, (x1, _, x2, _) = SimulatedGpu(library), images
    kernel, _ = judged_cross_kernel(gpu, network, kind, *images)
    again, _, *pulled = cross_kernel_vjp(gpu, network, kind, *images, cotangent, both=True)
    np.testing.assert_array_equal(again, kernel)
    reference = reference_kernel(KernelSpec(architecture_named(name), kind, "float64"))
    with enable_x64():
        expected = jax.jit(lambda *x: (reference(*x), jax.vjp(reference, *x)[1](cotangent)))(x1, x2)
    np.testing.assert_allclose(kernel, np.asarray(expected[0]), rtol=1e-14)
    for x, dx, dv, gradient in zip((x1, x2), pulled[::2], pulled[1::2], expected[1], strict=True):
        total = dx + variance_maps_vjp(gpu, network, x, dv)
        assert relative_error(total, np.asarray(gradient)) < 1e-13


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize(("name", "shape", "kind"), PROBLEMS)
def test_kernels_are_those_of_a_cpu(library, name, shape, kind, dtype, tolerance):
    network, images, _ = _problem(name, shape, dtype)
    kernel, _ = judged_cross_kernel(SimulatedGpu(library), network, kind, *images)
    expected = banded_cpu.cross_kernel(network, kind, *images, threads=1)
    assert kernel.dtype == dtype
    np.testing.assert_allclose(kernel, expected, rtol=tolerance)


# Of variances, the cotangents contain sqrt(1 - c^2), which loses digits as c nears 1.
@pytest.mark.parametrize(
    ("dtype", "of_pixels", "of_variances"), [("float64", 1e-14, 1e-13), ("float32", 2e-6, 2e-5)]
)
@pytest.mark.parametrize(("name", "shape", "kind"), PROBLEMS)
def test_cotangents_are_those_of_a_cpu(library, name, shape, kind, dtype, of_pixels, of_variances):
    shape = (min(shape[0], 12), *shape[1:])
    network, images, cotangent = _problem(name, shape, dtype)
    gpu = SimulatedGpu(library)
    again, _, *got = cross_kernel_vjp(gpu, network, kind, *images, cotangent, both=True)
    options = {"both": True, "threads": 1}
    kernel, _, *want = banded_cpu.cross_kernel_vjp(network, kind, *images, cotangent, **options)
    np.testing.assert_allclose(again, kernel, rtol=of_pixels)
    for piece, expected, tolerance in zip(got, want, (of_pixels, of_variances) * 2, strict=True):
        assert piece.dtype == dtype
        assert relative_error(piece, expected) < tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize(
    ("name", "shape"), [*(problem[:2] for problem in PROBLEMS), ("myrtle5", (9, 7, 3))]
)
def test_variance_maps_and_their_cotangents_are_those_of_a_cpu(
    library, name, shape, dtype, tolerance
):
    rng = np.random.default_rng(0)
    shape = (min(shape[0], 13), *shape[1:])
    network = banded_network(architecture_named(name), *shape[:2])
    images = rng.normal(size=(3, *shape)).astype(dtype)
    images[1, :4] = 0
    gpu = SimulatedGpu(library)
    maps = variance_maps(gpu, network, images)
    assert maps.dtype == dtype
    expected = banded_cpu.variance_maps(network, images)
    np.testing.assert_allclose(maps, expected, rtol=tolerance)
    cotangent = rng.normal(size=maps.shape).astype(dtype)
    pulled = variance_maps_vjp(gpu, network, images, cotangent)
    expected = banded_cpu.variance_maps_vjp(network, images, cotangent)
    assert relative_error(pulled, expected) < tolerance
    one = SimulatedGpu(library, blocks=1, warps=1)
    np.testing.assert_array_equal(variance_maps(one, network, images), maps)
    np.testing.assert_array_equal(variance_maps_vjp(one, network, images, cotangent), pulled)


@pytest.mark.parametrize("name", ["convnet3", "myrtle5"])
def test_bits_do_not_depend_on_the_number_of_warps_and_blocks(library, name):
    network, images, cotangent = _problem(name, (9, 8, 3), "float32", (2, 5))
    gpu, rest = SimulatedGpu(library), (network, "ntk", *images)
    kernel, _, *pulled = cross_kernel_vjp(gpu, *rest, cotangent, both=True)
    for blocks, warps in ((1, 1), (3, 16)):
        gpu = SimulatedGpu(library, blocks=blocks, warps=warps)
        np.testing.assert_array_equal(judged_cross_kernel(gpu, *rest)[0], kernel)
        again, _, *one_side = cross_kernel_vjp(gpu, *rest, cotangent, both=False)
        for got, want in zip((again, *one_side), (kernel, *pulled[:2]), strict=True):
            np.testing.assert_array_equal(got, want)
        again, _, *both = cross_kernel_vjp(gpu, *rest, cotangent, both=True)
        for got, want in zip((again, *both), (kernel, *pulled), strict=True):
            np.testing.assert_array_equal(got, want)


def test_little_memory_changes_no_bit(library):
    network, images, cotangent = _problem("convnet3", (9, 8, 3), "float32", (3, 5))
    rest = (network, "ntk", *images)
    roomy, narrow = SimulatedGpu(library), SimulatedGpu(library, memory=60_000)
    want = cross_kernel_vjp(roomy, *rest, cotangent, both=True)
    got = cross_kernel_vjp(narrow, *rest, cotangent, both=True)
    assert roomy.launches.count("cross_vjp") == 1
    assert 1 < narrow.launches.count("cross_vjp") < 15
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)
    narrow = SimulatedGpu(library, memory=30_000)
    kernel, _ = judged_cross_kernel(narrow, *rest)
    assert narrow.launches.count("cross") > 1
    np.testing.assert_array_equal(kernel, want[0])
    maps, pulled = images[1], variance_maps_vjp(roomy, network, images[0], images[1])
    small = SimulatedGpu(library, memory=8_000)
    np.testing.assert_array_equal(
        variance_maps(small, network, images[0]), variance_maps(roomy, network, images[0])
    )
    np.testing.assert_array_equal(variance_maps_vjp(small, network, images[0], maps), pulled)
    assert small.launches.count("variances_vjp") > 1
    with pytest.raises(MemoryError):
        cross_kernel_vjp(SimulatedGpu(library, memory=400), *rest, cotangent, both=True)


def _engine_and_batches(gpu, counts=(3, 5)):
    """An engine, two batches of images, of which a pair nearly coincides, and a cotangent."""
    rng = np.random.default_rng(0)
    engine = banded_cuda_engine.engine_on(
        Residency(gpu), KernelSpec(architecture_named("convnet3"), "ntk", "float32")
    )
    x1, x2 = (rng.normal(size=(count, 9, 8, 3)).astype("float32") for count in counts)
    x2[-1] = x1[0] + np.float32(1e-4)
    sides = [PreparedImages(x, engine.features(x)) for x in (x1, x2)]
    return engine, sides, rng.normal(size=counts)


@pytest.mark.parametrize(
    ("memory", "free", "both", "kept", "parts"),
    [
        (2**30, 2**30, True, True, 1),
        (140_000, 30_000, False, True, 1),
        (140_000, 30_000, True, True, 3),
        (100_000, 2**30, True, False, 5),  # a quarter is for 11 pairs, an eighth for 5
    ],
)
def test_cotangents_from_kept_outputs_have_the_same_bits(library, memory, free, both, kept, parts):
    engine, sides, cotangent = _engine_and_batches(SimulatedGpu(library))
    kernel, want = engine.block_vjp(*sides, cotangent, both)
    gpu = SimulatedGpu(library, memory=memory)
    engine, sides, _ = _engine_and_batches(gpu)
    again, pull_back = engine.linearise(*sides, both)
    np.testing.assert_array_equal(again, kernel)
    del gpu.launches[:]
    gpu.free = min(gpu.free, free)
    got = pull_back(cotangent)
    usual = gpu.launches[: gpu.launches.index("variances_vjp")]  # then comes float64
    assert (usual.count("cross") == 0) == kept
    assert usual.count("cross_vjp") == parts
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_oldest_outputs_are_forgotten_and_computed_again(library):
    gpu = SimulatedGpu(library, memory=180_000)  # that of three blocks fits into a quarter
    engine, (x1, x2), cotangent = _engine_and_batches(gpu, (3, 8))
    parts = [slice(2 * index, 2 * index + 2) for index in range(4)]
    want = [engine.block_vjp(x1, x2.take(part), cotangent[:, part], both=True) for part in parts]
    free = gpu.free
    linearised = [engine.linearise(x1, x2.take(part), both=True) for part in parts]
    again = []
    for (kernel, pull_back), (expected, pulled), part in zip(linearised, want, parts, strict=True):
        np.testing.assert_array_equal(kernel, expected)
        del gpu.launches[:]
        for one, other in zip(pull_back(cotangent[:, part]), pulled, strict=True):
            np.testing.assert_array_equal(one, other)
        again.append(gpu.launches[0] == "cross")
    assert again == [True, False, False, False]
    assert gpu.free < free
    del linearised, pull_back
    assert gpu.free == free


def test_kept_outputs_make_room_for_a_pair_that_has_none(library):
    gpu = SimulatedGpu(library, memory=2_000_000)
    engine, sides, cotangent = _engine_and_batches(gpu)
    kernel, want = engine.block_vjp(*sides, cotangent, both=True)
    _, pull_back = engine.linearise(*sides, both=True)
    taken, gpu.free = gpu.free, 12_000  # as if another program had taken the rest
    again, got = engine.block_vjp(*sides, cotangent, both=True)
    gpu.free += taken
    del gpu.launches[:]
    for one, other in zip((again, *got), (kernel, *want), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(pull_back(cotangent), want, strict=True):
        np.testing.assert_array_equal(one, other)
    assert gpu.launches[0] == "cross"


@pytest.mark.parametrize("counts", [(2, 0), (0, 3)])
def test_no_pairs_give_no_kernels_and_cotangents_of_zero(library, counts):
    network, images, cotangent = _problem("convnet3", (8, 8, 1), "float32", counts)
    gpu, rest = SimulatedGpu(library), (network, "ntk", *images)
    assert judged_cross_kernel(gpu, *rest)[0].shape == counts
    kernel, _, *pulled = cross_kernel_vjp(gpu, *rest, cotangent, both=True)
    assert kernel.shape == counts
    for piece, given in zip(pulled, images, strict=True):
        assert piece.shape == given.shape
        assert (piece == 0).all()
    assert variance_maps(gpu, network, images[0][:0]).shape == images[1][:0].shape


def test_near_images_are_evaluated_again_in_float64_as_with_the_engine_of_a_cpu(library):
    spec = KernelSpec(architecture_named("convnet3"), "ntk", "float32")
    rng = np.random.default_rng(0)
    x1 = rng.normal(size=(3, 8, 8, 3)).astype("float32")
    x2 = np.concatenate([x1[:1] + np.float32(1e-4), x1[1:2], x1[::-1] * -2])
    cotangent = rng.normal(size=(len(x1), len(x2)))
    gpu = SimulatedGpu(library)

    def engine(spec):
        return banded_cuda_engine.engine_on(Residency(gpu), spec)

    results = []
    for one in (engine(spec), banded_cpu_engine.make_engine(spec, 1)):
        sides = (PreparedImages(x, one.features(x)) for x in (x1, x2))
        kernel, pulled = one.block_vjp(*sides, cotangent, both=True)
        results.append((kernel, *pulled))
    exact = engine(dataclasses.replace(spec, dtype="float64"))
    sides = (PreparedImages(x, exact.features(x)) for x in map(np.float64, (x1, x2)))
    np.testing.assert_array_equal(results[0][0][0, 0], exact.block(*sides)[0, 0])
    for got, want in zip(*results, strict=True):
        assert relative_error(got, want) < 2e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_image_with_itself_has_the_kernel_of_its_variance_maps(library, dtype):
    network, (x1, v1, *_), _ = _problem("convnet", (8, 8, 3), dtype)
    images = (x1, v1, x1, v1)
    kernel, _ = judged_cross_kernel(SimulatedGpu(library), network, "nngp", *images)
    expected = banded_cpu.cross_kernel(network, "nngp", *images, threads=1)
    np.testing.assert_allclose(kernel, expected, rtol=1e-14 if dtype == "float64" else 5e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blank_images_have_kernels_of_zero_and_nans_stay(library, dtype):
    architecture = Architecture("convnet3", architecture_named("convnet3").layers, b_std=0.0)
    network = banded_network(architecture, 8, 8)
    x1, x2 = np.random.default_rng(0).normal(size=(2, 3, 8, 8, 1)).astype(dtype)
    x1[1], x2[:, :4] = 0, 0
    x2[2, 5, 5] = np.nan
    images = (x1, banded_cpu.variance_maps(network, x1), x2, banded_cpu.variance_maps(network, x2))
    gpu, rest = SimulatedGpu(library), (network, "ntk", *images)
    kernel, _, *pulled = cross_kernel_vjp(gpu, *rest, np.ones((3, 3), dtype), both=True)
    assert all(np.isfinite(piece[:2]).all() for piece in pulled[2:])
    assert np.isnan(pulled[0]).any()
    assert (kernel[1, :2] == 0).all()
    assert (kernel[0, :2] > 0).all()
    assert np.array_equal(np.isnan(kernel), np.broadcast_to(np.arange(3) == 2, kernel.shape))


@pytest.mark.parametrize("name", ["convnet", "conv_vec3", "myrtle5"])
def test_pairs_are_endangered_as_a_cpu_judges(library, name):
    rng = np.random.default_rng(0)
    network = banded_network(architecture_named(name), 12, 9)
    x1 = rng.normal(size=(2, 12, 9, 3)).astype("float32")
    noise = rng.normal(size=x1[0].shape)
    near = [x1[0] + closeness * noise for closeness in (3e-1, 1e-2, 1e-3, 1e-4, 1e-5, 0)]
    x2 = np.stack([*near, rng.normal(size=noise.shape)]).astype("float32")
    images = x1, banded_cpu.variance_maps(network, x1), x2, banded_cpu.variance_maps(network, x2)
    gpu, cotangent = SimulatedGpu(library), np.ones((2, 7), "float32")
    _, endangered = judged_cross_kernel(gpu, network, "ntk", *images)
    _, expected = banded_cpu.judged_cross_kernel(network, "ntk", *images, threads=1)
    np.testing.assert_array_equal(endangered, expected)
    assert endangered[0].any()
    assert not endangered[:, [5, 6]].any()  # equal, another image
    _, again, *pulled = cross_kernel_vjp(gpu, network, "ntk", *images, cotangent, both=True)
    np.testing.assert_array_equal(again, expected)
    options = {"both": True, "threads": 1}
    _, _, *want = banded_cpu.cross_kernel_vjp(network, "ntk", *images, cotangent, **options)
    for index, tolerance in ((0, 1e-5), (2, 1e-5)):
        assert relative_error(pulled[index], want[index]) < tolerance
    # Rounding of float64 does no harm.
    images = tuple(array.astype("float64") for array in images)
    assert not judged_cross_kernel(gpu, network, "ntk", *images)[1].any()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("convnet", (12, 9, 3)),
        ("convnet3", (8, 8, 1)),
        ("convnet1", (10, 6, 2)),
        ("conv_vec3", (9, 12, 1)),
        ("convnet2_gap", (4, 5, 1)),
    ],
)
def test_near_duplicates_of_every_kind_are_judged_as_by_a_cpu(library, name, shape):
    rng = np.random.default_rng(0)
    network = banded_network(architecture_named(name), *shape[:2])
    gpu, judgements = SimulatedGpu(library), []

    def judge(first, others):
        x1, x2 = first[None].astype("float32"), np.stack(others).astype("float32")
        images = (
            x1,
            banded_cpu.variance_maps(network, x1),
            x2,
            banded_cpu.variance_maps(network, x2),
        )
        _, got = judged_cross_kernel(gpu, network, "nngp", *images)
        _, expected = banded_cpu.judged_cross_kernel(network, "nngp", *images, threads=1)
        np.testing.assert_array_equal(got, expected)
        judgements.extend(expected[0])

    for family in FAMILIES.values():
        image = family.first(shape, rng)
        judge(image, [family.second(image, closeness, rng) for closeness in CLOSENESS])
    image, noise = rng.normal(size=(2, *shape))
    noise[: shape[0] // 2] = 0
    shifted = [np.roll(image, shift, (0, 1)) for shift in ((0, 1), (1, 0), (2, -1))]
    judge(image, [other + 1e-5 * noise for other in shifted])
    halves = [np.concatenate([image[:row], noise[row:]]) for row in (2, shape[0] // 2)]
    judge(image, [other * (1 + 1e-4) for other in halves])
    assert 0 < sum(judgements) < len(judgements)


def test_the_check_of_a_lent_gpu_holds_here_and_notices_what_does_not(library, monkeypatch):
    monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parents[2] / "benchmarks"))
    check = importlib.import_module("device_check")
    make = check.on_device(SimulatedGpu(library))
    cases = [(case, near) for case, near in check.every_case() if np.prod(case.shape) < 65 or near]
    found = [check.checked(make, *case) for case in cases]
    assert len(found) > 4
    assert [case["wrong"] for case in found] == [[]] * len(found)
    monkeypatch.setattr(check, "relative", lambda got, want: 1e-9)
    assert check.checked(make, *cases[0])["wrong"] == [
        "K in float64 is off by 1.0e-09.",
        "cotangent in float64 is off by 1.0e-09.",
    ]


def test_larger_sides_are_refused():
    network = banded_network(architecture_named("convnet"), 8, LARGEST_SIDE + 1)
    with pytest.raises(ValueError, match="sides are at most 128"):
        kernel_plan(network, 3, tangent=True, dtype="float32")


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "faults.so"
    source = pathlib.Path(__file__).with_name("simulated_faults.cpp")
    command = [*simulated_gpu.COMPILER, *simulated_gpu.FLAGS, *simulated_gpu.INCLUDES]
    subprocess.run([*command, os.fspath(source), "-o", os.fspath(path)], check=True)
    return ctypes.CDLL(os.fspath(path))


@pytest.mark.parametrize(
    "fault",
    [
        *("write_outside", "read_outside", "read_before_write", "read_after_forgetting"),
        *("two_lanes_write", "two_warps_write"),
        *("a_warp_reads_what_another_writes", "a_warp_writes_what_another_reads"),
    ],
)
def test_faults_that_a_gpu_would_not_report_are_refused(faults, fault):
    assert getattr(faults, fault)() == 1


def test_accesses_in_order_are_allowed(faults):
    assert faults.none() == 0
