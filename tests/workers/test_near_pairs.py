"""float32 kernels of images that nearly coincide, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_kernel import distance, exact_derivative, exact_kernel
from hypothesis import example, given, settings
from hypothesis import strategies as st
from near_images import FAMILIES, near_pair, pair_errors
from sklearn.datasets import load_digits

from kipper.common.architecture import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    KernelSpec,
    Relu,
    architecture_named,
)
from kipper.common.datasets.registry import load_dataset
from kipper.launch.kernels import kernel, kernel_vjp
from kipper.workers import banded_cpu, banded_cpu_engine, banded_xla, dense_engine
from kipper.workers.bands import banded_network
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages
from kipper.workers.near_pairs import crowded, image_nearness

NATIVE = pytest.mark.skipif(
    banded_cpu.unavailable() is not None, reason=str(banded_cpu.unavailable())
)


_CONV = (Conv(), Relu())
_FOR_FOUR_PIXELS = {
    "two pools": (*_CONV, AvgPool(), *_CONV, AvgPool(), Flatten(), Dense()),
    "no pool": (*_CONV, *_CONV, Flatten(), Dense()),
    "global average": (*_CONV, AvgPool(), *_CONV, GlobalAvgPool(), Dense()),
    "fully connected": (Flatten(), Dense(), Relu(), Dense(), Relu(), Dense()),
}


def _pair(engine, images):
    """K (2, 2) as kipper assembles it, and the gradient of entry (0, 1) by both images."""
    prepared = PreparedImages(images, engine.features(images))
    cotangent = np.array([[0, 1], [0, 0]], images.dtype)
    values, (first, second) = engine.block_vjp(prepared, prepared, cotangent, both=True)
    assert np.array_equal(values, engine.block(prepared, prepared))
    values = np.array(values)
    values[1, 0] = values[0, 1]
    return values, np.stack([first[0], second[1]])


@NATIVE
@given(
    name=st.sampled_from(sorted(_FOR_FOUR_PIXELS)),
    kind=st.sampled_from(["ntk", "nngp"]),
    family=st.sampled_from(sorted(FAMILIES)),
    exponent=st.floats(-8, -0.5),
    seed=st.integers(0, 2**20),
)
@example("no pool", "ntk", "scaled", -5.0, 0)
@settings(max_examples=8, deadline=None)
def test_float64_holds_to_fifty_digits_at_any_closeness(name, kind, family, exponent, seed):
    rng = np.random.default_rng(seed)
    images = near_pair(family, 10**exponent, (4, 4, 2), rng).astype(np.float64)
    if np.array_equal(*images):
        return
    spec = KernelSpec(Architecture(name, _FOR_FOUR_PIXELS[name], 2**0.5, 0.1), kind, "float64")
    if name == "fully connected":
        engine = dense_engine.make_engine(spec, 1)
    else:
        engine = banded_cpu_engine.unchecked_engine(spec, 1)
    values, gradient = _pair(engine, images)
    expected = exact_kernel(spec, *images)
    np.testing.assert_allclose(values, expected.astype(float), rtol=2e-8)
    got = 1 - values[0, 1] / np.sqrt(values[0, 0] * values[1, 1])
    assert abs(got - distance(expected)) < max(1e-3 * distance(expected), 2e-8)
    if exponent >= -5:
        direction = rng.normal(size=images.shape)
        slope = exact_derivative(spec, images, direction)
        size = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs(np.sum(gradient * direction) - slope) < 1e-4 * size


@NATIVE
@pytest.mark.parametrize("name", ["convnet3", "conv_vec3", "myrtle5"])
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    exponent=st.floats(-8, -0.5),
    seed=st.integers(0, 2**20),
)
@example("zero", -5.0, 0)
@example("scaled", -2.0, 0)
@example("one pixel", -5.0, 0)
@settings(max_examples=25, deadline=None)
def test_pairs_at_any_closeness_keep_kernel_distance_and_gradient(name, family, exponent, seed):
    images = near_pair(family, 10**exponent, (8, 8, 3), np.random.default_rng(seed))
    if np.array_equal(*images):
        return
    results = []
    for dtype in ("float32", "float64"):
        engine = make_engine("banded_cpu", KernelSpec(architecture_named(name), "ntk", dtype), 1)
        results.append(_pair(engine, images.astype(dtype)))
    errors = pair_errors(*results)
    # Beyond the bounds of the others: docs/results.md, "Flat backgrounds".
    slack = 3 if family == "grey background" else 1
    assert errors.kernel < slack * 1e-6
    assert errors.distance_error < max(1e-3 * errors.distance, 1e-8)
    if exponent >= -5:
        assert errors.gradient < slack * 1e-3


@NATIVE
@pytest.mark.parametrize("name", ["convnet3", "conv_vec3"])
def test_frames_that_differ_by_a_grey_level_have_a_positive_definite_kernel(name):
    rng = np.random.default_rng(8)
    frame = np.full((1, 16, 16, 3), 230) + rng.integers(-3, 4, (1, 16, 16, 3))
    frames = np.repeat(frame, 40, 0)
    changed = rng.random(frames.shape) < 0.02
    changed[0] = False
    images = (((frames + changed) / 255 - 0.45) / 0.25).astype(np.float32)
    values = kernel(images, architecture=name)  # of several blocks
    exact = kernel(images, architecture=name, dtype="float64")
    assert values.dtype == np.float64
    assert np.array_equal(values, values.T)
    np.testing.assert_allclose(values, exact, rtol=1e-14)
    ridge = 1e-6 * np.trace(values) / len(values) * np.eye(len(values))
    np.linalg.cholesky(values + ridge)
    cotangent = np.zeros((40, 40))
    cotangent[0, 1] = 1
    got, want = (
        kernel_vjp(images, images, cotangent, architecture=name, dtype=dtype)[1][0]
        for dtype in ("float32", "float64")
    )
    assert np.linalg.norm(got - want) < 1e-6 * np.linalg.norm(want)


@NATIVE
def test_parts_of_images_that_nearly_coincide_are_found_and_others_are_not():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 16, 16, 3))
    half = images.copy()
    half[:, 8:] = rng.normal(size=(3, 8, 16, 3))
    half[1] += 1e-4 * rng.normal(size=(16, 16, 3)) * (np.arange(16) < 8)[:, None, None]
    moved = np.roll(images[2], 2, axis=0) + 1e-4 * rng.normal(size=(16, 16, 3))
    others = np.concatenate([half, moved[None]])
    network = banded_network(architecture_named("convnet"), 16, 16)
    x1, x2 = images.astype(np.float32), others.astype(np.float32)
    v1, v2 = (banded_cpu.variance_maps(network, x) for x in (x1, x2))
    _, endangered = banded_cpu.judged_cross_kernel(network, "ntk", x1, v1, x2, v2, threads=1)
    assert endangered.tolist() == [
        [False, False, False, False],  # half of the image coincides exactly
        [False, True, False, False],
        [False, False, False, True],
    ]


@NATIVE
def test_bits_of_endangered_pairs_depend_on_no_other_pair_nor_on_threads():
    spec = KernelSpec(architecture_named("convnet3"), "ntk", "float32")
    rng = np.random.default_rng(1)
    images = rng.normal(size=(5, 8, 8, 1)) + 1e-3 * rng.normal(size=(4, 5, 8, 8, 1))
    x1, x2 = images[0].astype(np.float32), images[1:].reshape(15, 8, 8, 1).astype(np.float32)
    whole = [
        make_engine("banded_cpu", spec, threads).block(
            *(PreparedImages(x, make_engine("banded_cpu", spec, 1).features(x)) for x in (x1, x2))
        )
        for threads in (1, 2)
    ]
    assert np.array_equal(*whole)
    engine = make_engine("banded_cpu", spec, 1)
    for i in range(5):
        for j in range(15):
            pair = (PreparedImages(x, engine.features(x)) for x in (x1[i : i + 1], x2[j : j + 1]))
            assert engine.block(*pair)[0, 0] == whole[0][i, j]


@NATIVE
@pytest.mark.parametrize("both", [True, False])
def test_what_is_kept_for_the_pullback_changes_no_bit_of_endangered_pairs(both):
    spec = KernelSpec(architecture_named("convnet"), "ntk", "float32")
    engine = make_engine("banded_cpu", spec, 1)
    rng = np.random.default_rng(2)
    x1 = rng.normal(size=(3, 8, 8, 1)).astype(np.float32)
    x2 = np.concatenate([x1[:2] * np.float32(1.05), rng.normal(size=(4, 8, 8, 1))])
    sides = [PreparedImages(x, engine.features(x)) for x in (x1, x2.astype(np.float32))]
    cotangent = rng.normal(size=(3, 6)).astype(np.float32)
    values, pullback = engine.linearise(*sides, both)
    again, expected = engine.block_vjp(*sides, cotangent, both)
    assert np.array_equal(values, again)
    for got, want in zip(pullback(cotangent), expected, strict=True):
        assert np.array_equal(got, want)


@NATIVE
@pytest.mark.parametrize(
    ("name", "shift", "rows"),
    [
        ("convnet", (0, 1), 16),
        ("convnet", (1, 3), 16),
        ("convnet", (0, 0), 9),
        ("conv_vec3", (0, 0), 6),
    ],
)
def test_images_that_nearly_coincide_after_a_shift_or_in_a_part(name, shift, rows):
    rng = np.random.default_rng(0)
    scene = rng.normal(size=(20, 20, 3))
    first = scene[:16, :16]
    second = rng.normal(size=first.shape)
    second[:rows] = scene[shift[0] :, shift[1] :][:rows, :16]
    for noise in (2e-3, 7e-4, 1e-5):
        images = np.stack([first, second + noise * rng.normal(size=first.shape)])
        images = images.astype(np.float32)
        single, double = (
            _pair(
                banded_cpu_engine.unchecked_engine(
                    KernelSpec(architecture_named(name), "ntk", dtype), 1
                ),
                images.astype(dtype),
            )
            for dtype in ("float32", "float64")
        )
        errors = pair_errors(single, double)
        assert errors.kernel < 1e-6
        assert errors.distance_error < 1e-3 * errors.distance
        assert errors.gradient < 1e-3


@NATIVE
@pytest.mark.parametrize(("name", "dimmed", "most"), [("convnet", 1, 0), ("convnet3", 16, 0.04)])
def test_images_with_dark_backgrounds_stay_float32_within_its_bounds(name, dimmed, most):
    images = load_digits().images[:80, ..., None] / (16 * dimmed)
    results = []
    for dtype in ("float32", "float64"):
        x1, x2 = images[:30].astype(dtype), images[30:].astype(dtype)
        network = banded_network(architecture_named(name), 8, 8)
        v1, v2 = (banded_cpu.variance_maps(network, x) for x in (x1, x2))
        values, endangered = banded_cpu.judged_cross_kernel(
            network, "ntk", x1, v1, x2, v2, threads=1
        )
        engine = banded_cpu_engine.unchecked_engine(
            KernelSpec(architecture_named(name), "ntk", dtype), 1
        )
        first, others = PreparedImages(x1[:1], v1[:1]), PreparedImages(x2, v2)
        _, (_, slopes) = engine.block_vjp(first, others, np.ones((1, 50), dtype), both=True)
        results.append((values, endangered, slopes.reshape(50, -1)))
    (values, endangered, slopes), (exact, _, expected) = results
    assert np.mean(endangered) <= most
    assert np.abs(values - exact).max() < 1e-6 * np.abs(exact).max()
    errors = np.linalg.norm(slopes - expected, axis=1)
    assert np.all(errors < 1e-3 * np.linalg.norm(expected, axis=1))


@NATIVE
def test_faint_pixels_beside_black_ones_keep_their_gradients():
    digits = load_dataset("mnist5k", None).x_train / np.float32(16)
    for name, pair in (("convnet3", [10, 0]), ("conv_vec3", [11, 4])):
        single, double = (
            _pair(
                banded_cpu_engine.unchecked_engine(
                    KernelSpec(architecture_named(name), "ntk", dtype), 1
                ),
                digits[pair].astype(dtype),
            )
            for dtype in ("float32", "float64")
        )
        assert pair_errors(single, double).gradient < 1e-3


def test_faint_patches_are_told_from_those_of_bytes():
    strokes = np.zeros((4, 8, 8, 2), np.float32)
    for index in range(4):
        strokes[index, 3:5, index : index + 3] = 1
    strokes[1, 1, 6], strokes[2, 1, 6] = 1 / 255, 1 / 255 / 4
    strokes[3] += 1  # nowhere black
    near = image_nearness(strokes, strokes, architecture_named("convnet3")).near
    assert np.argwhere(near).tolist() == [[0, 2], [1, 2], [2, 0], [2, 1]]
    assert crowded(strokes, architecture_named("convnet3")).tolist() == [True, True, True, False]


def test_whole_images_that_nearly_coincide_are_told_from_equal_ones():
    architecture = architecture_named("convnet")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 8, 8, 1)).astype(np.float32)
    others = np.concatenate([images[:1], images[1:2] * np.float32(1.0001), -images[2:]])
    equal, near = image_nearness(images, others, architecture)
    assert np.array_equal(equal, np.diag([True, False, False]))
    assert np.array_equal(near, np.diag([False, True, False]))
    assert crowded(np.concatenate([images, others]), architecture).tolist() == [
        *(False, True, False),
        *(False, True, False),
    ]
    nearly_zero = np.stack([np.zeros((8, 8, 1)), np.full((8, 8, 1), 1e-6)]).astype(np.float32)
    assert crowded(nearly_zero, architecture).all()
    assert not crowded(np.full((2, 8, 8, 1), np.inf, np.float32), architecture).any()
    assert image_nearness(images[:0], others, architecture).near.shape == (0, 3)


@NATIVE
@pytest.mark.parametrize("name", ["convnet3", "conv_vec3"])
def test_plain_jax_judges_as_native_code_does(name):
    network = banded_network(architecture_named(name), 8, 8)
    rng = np.random.default_rng(3)
    first = rng.normal(size=(8, 8, 2))
    steps = (1e-6, 1e-4, 1e-3, 1e-2, 1.0)
    x = np.stack([first, *(first + step * rng.normal(size=(8, 8, 2)) for step in steps)])
    x = x.astype(np.float32)
    v = np.asarray(jax.jit(banded_xla.variance_maps, static_argnums=0)(network, x))
    plain = jax.jit(banded_xla.judged_cross_kernel, static_argnums=(0, 1))
    _, judged = plain(network, "nngp", *map(jnp.asarray, (x[:1], v[:1], x, v)))
    _, native = banded_cpu.judged_cross_kernel(network, "nngp", x[:1], v[:1], x, v, threads=1)
    assert np.asarray(judged).tolist() == native.tolist()
    assert native[0, [0, -1]].tolist() == [False, False]
    assert native[0, 1:-1].all()


@pytest.mark.thorough
def test_plain_jax_keeps_pairs_that_nearly_coincide():
    images = near_pair("8-bit texture", 1e-2, (8, 8, 1), np.random.default_rng(0))
    single, double = (
        _pair(
            make_engine("banded_xla", KernelSpec(architecture_named("convnet3"), "ntk", dtype), 1),
            images.astype(dtype),
        )
        for dtype in ("float32", "float64")
    )
    errors = pair_errors(single, double)
    assert errors.kernel < 1e-6
    assert errors.distance_error < max(1e-3 * errors.distance, 1e-8)
    assert errors.gradient < 1e-3
