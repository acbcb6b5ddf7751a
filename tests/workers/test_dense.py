"""Fully connected kernels: against neural-tangents, where images coincide, and in float32."""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from harness import assembled
from hypothesis import example, given, settings
from hypothesis import strategies as st
from near_images import FAMILIES, near_pair, pair_errors
from oracle import loss_and_gradients, relative_error

from kipper.common.architecture import (
    Architecture,
    Conv,
    Dense,
    Flatten,
    KernelSpec,
    Relu,
    architecture_named,
)
from kipper.common.errors import UserError
from kipper.common.precision import enable_x64
from kipper.server.tiling import Tiling
from kipper.workers import dense, dense_cpu, dense_engine
from kipper.workers.choice import make_engine
from kipper.workers.dense import DenseNetwork
from kipper.workers.engine import PreparedImages

needs_neural_tangents = pytest.mark.skipif(
    importlib.util.find_spec("neural_tangents") is None, reason="neural-tangents is not installed"
)
NATIVE = pytest.mark.skipif(
    dense_cpu.unavailable() is not None, reason=str(dense_cpu.unavailable())
)


_plain = dense_engine.plain_engine


ENGINES = [
    pytest.param(_plain, id="plain"),
    pytest.param(lambda spec: make_engine("dense", spec, 2), id="native", marks=NATIVE),
]


def _spec(name="fc2", dtype="float64", kind="ntk"):
    return KernelSpec(architecture_named(name), kind, dtype)


def _images(count, seed, shape=(5, 4, 3), dtype="float64"):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(dtype)


def _prepared(engine, *batches):
    return [PreparedImages(images, engine.features(images)) for images in batches]


def _results(engine, x1, x2, cotangent):
    """K and the cotangents of both batches."""
    kernel, pulled = engine.block_vjp(*_prepared(engine, x1, x2), cotangent, both=True)
    return [kernel, *pulled]


@needs_neural_tangents
@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize(
    ("name", "shape", "counts"),
    [
        ("fc1", (5, 4, 3), (7, 9)),
        ("fc2", (8, 8, 1), (3, 300)),  # more than a tile of columns
        pytest.param("fc5", (3, 3, 2), (40, 1), marks=pytest.mark.thorough),
        pytest.param("fc2", (32, 32, 3), (2, 33), marks=pytest.mark.thorough),
    ],
)
def test_kernel_and_both_vjps_are_those_of_neural_tangents(name, shape, counts, kind, make):
    from kipper.workers.neural_tangents import kernel_function

    spec = _spec(name, kind=kind)
    x1, x2 = _images(counts[0], 0, shape), _images(counts[1], 1, shape)
    if shape != (32, 32, 3):  # that long, neural-tangents loses an image's kernel with itself
        x2[0] = x1[-1]
    cotangent = np.random.default_rng(2).normal(size=counts)
    reference = kernel_function(spec)
    with enable_x64():
        expected = jax.jit(lambda *x: (reference(*x), *jax.vjp(reference, *x)[1](cotangent)))(
            x1, x2
        )
    for got, want in zip(_results(make(spec), x1, x2, cotangent), expected, strict=True):
        assert relative_error(got, np.asarray(want)) < 1e-12


def _fc1_of_pairs(first, second):
    """fc1's NTK of pairs of images (p, d), in extended precision."""
    a, b = first.astype(np.longdouble), second.astype(np.longdouble)
    weight, bias = np.longdouble(2**0.5) ** 2, np.longdouble(0.1) ** 2
    k, v1, v2 = (weight * np.mean(x * y, 1) + bias for x, y in ((a, b), (a, a), (b, b)))
    s = np.sqrt(v1 * v2)
    angle = np.arctan2(np.sqrt((s - k) * (s + k)), k)
    k1 = (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.longdouble(np.pi)
    return weight * s * k1 / 2 + bias + weight * k * (1 - angle / np.longdouble(np.pi)) / 2


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 4e-7)])
@pytest.mark.parametrize("distance", [1e-1, 1e-2, 1e-3, 1e-4])
def test_images_that_are_close_keep_all_digits(distance, dtype, tolerance):
    """A matrix product alone would leave 1e-15 / distance, or 1e-6 / distance in float32."""
    x1 = _images(20, 0, (32, 32, 3), dtype)
    x2 = (x1 + distance * _images(20, 1, (32, 32, 3))).astype(dtype)
    engine = make_engine("dense", _spec("fc1", dtype), 1)
    got = np.diag(engine.block(*_prepared(engine, x1, x2)))
    expected = _fc1_of_pairs(x1.reshape(20, -1), x2.reshape(20, -1))
    assert relative_error(got, expected) < tolerance


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_image_with_itself_is_the_recursion(dtype):
    """At correlation 1: k' = k / 2, so K = W2 k / 2 + b2 and T = K + W2 t / 2 layer by layer."""
    spec = _spec("fc5", dtype)
    images = _images(10, 0, (32, 32, 3), dtype)
    w2, b2 = spec.architecture.w_std**2, spec.architecture.b_std**2
    covariance = tangent = w2 * np.mean(images.astype("float64") ** 2, axis=(1, 2, 3)) + b2
    for _ in range(5):
        covariance = w2 * covariance / 2 + b2
        tangent = covariance + w2 * tangent / 2
    engine = make_engine("dense", spec, 1)
    got = np.diag(engine.block(*_prepared(engine, images, images.copy())))
    assert relative_error(got, tangent) < (1e-6 if dtype == "float32" else 2e-15)


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("name", ["fc1", pytest.param("fc3", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_float32_is_float64_rounded_also_where_images_coincide(name, shape, make):
    x1, x2 = _images(20, 0, shape, "float32"), _images(50, 1, shape, "float32")
    x2[:5] = x1[:5]
    x2[5:10] = x1[5:10] + 1e-2 * x2[5:10]
    cotangent = np.random.default_rng(2).normal(size=(20, 50)).astype("float32")
    got = _results(make(_spec(name, "float32")), x1, x2, cotangent)
    exact = (array.astype("float64") for array in (x1, x2, cotangent))
    expected = _results(make(_spec(name)), *exact)
    assert [piece.dtype for piece in got[1:]] == [np.float32] * 2
    for single, double, tolerance in zip(got, expected, (1e-6, 1e-5, 1e-5), strict=True):
        assert relative_error(single, double) < tolerance


DEGENERATE = {
    "zero": np.zeros((3, 4, 4, 2)),
    "constant": np.ones((3, 4, 4, 2)) * np.array([1.0, 1.0, -2.0])[:, None, None, None],
    "huge": 1e4 * _images(3, 3, (4, 4, 2)),
    "tiny": 1e-4 * _images(3, 4, (4, 4, 2)),
    "opposite": np.concatenate([_images(2, 5, (4, 4, 2)), -_images(2, 5, (4, 4, 2))[:1]]),
}


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("b_std", [0.0, pytest.param(0.1, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_images_have_finite_kernels_and_gradients(name, b_std, dtype, make):
    architecture = Architecture("fc2", architecture_named("fc2").layers, b_std=b_std)
    engine = make(KernelSpec(architecture, "ntk", dtype))
    x1 = np.concatenate([DEGENERATE[name], _images(2, 6, (4, 4, 2))]).astype(dtype)
    x2 = np.concatenate([x1, _images(3, 7, (4, 4, 2), dtype)])
    results = _results(engine, x1, x2, np.ones((5, 8), dtype))
    assert all(np.isfinite(piece).all() for piece in results)
    variances = np.mean(x1.astype("float64") ** 2, axis=(1, 2, 3))
    # With itself: T = 3 k for fc2 without biases, of W2 = 2.
    if b_std == 0:
        np.testing.assert_allclose(np.diag(results[0]), 6 * variances, rtol=1e-6)


def _of_pair(engine, pair):
    """K (2, 2) of a pair, and the gradient of its entry (0, 1) by both images."""
    both, first, second = _prepared(engine, pair, pair[:1], pair[1:])
    _, pulled = engine.block_vjp(first, second, np.ones((1, 1), pair.dtype), both=True)
    return engine.block(both, both), np.stack(pulled)


@pytest.mark.parametrize("make", ENGINES)
@settings(max_examples=60, deadline=None)
@given(
    family=st.sampled_from(list(FAMILIES)),
    closeness=st.floats(-6, -1),
    scale=st.floats(-25, 18),
    seed=st.integers(0, 9),
)
@example(family="one pixel", closeness=-5.0, scale=0.0, seed=0)
@example(family="all pixels", closeness=-2.0, scale=-6.5, seed=0)
def test_float32_keeps_every_distance_and_gradient(make, family, closeness, scale, seed):
    """The closeness 10^closeness and the scale 10^scale are log-uniform."""
    pair = near_pair(family, 10**closeness, (6, 6, 2), np.random.default_rng(seed), 10**scale)
    got = _of_pair(make(_spec("fc3", "float32")), pair)
    errors = pair_errors(got, _of_pair(make(_spec("fc3")), pair.astype(float)))
    # Products of grey backgrounds have one sign, so that their sum is larger and rounds more.
    rounding = 3e-6 if family == "grey background" else 1e-6
    assert errors.kernel < rounding
    # Without close pairs K is rounded to float32.
    assert errors.distance_error < max(1e-8, min(rounding, 1e-3 * errors.distance))
    assert errors.gradient < 1e-5
    # To the bit in float32; close pairs in float64 to their last digit, and callers mirror them.
    assert relative_error(got[0], got[0].T) < 1e-15


@pytest.mark.parametrize("make", ENGINES)
def test_frames_of_a_video_have_a_positive_definite_kernel(make):
    rng = np.random.default_rng(8)
    frames = np.repeat(230 + rng.integers(-3, 4, (1, 16, 16, 3)), 20, 0)
    frames[1:][rng.random(frames[1:].shape) < 0.02] += 1
    frames = ((frames / 255 - 0.45) / 0.25).astype(np.float32)
    engine = make(_spec("fc3", "float32"))
    kernel = engine.block(*_prepared(engine, frames, frames)).astype(float)
    assert relative_error(kernel, kernel.T) < 1e-15
    assert np.linalg.eigvalsh(kernel / np.trace(kernel) * 20)[0] > 1e-4


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("b_std", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_numbers_out_of_range_are_not_finite_and_others_are_right(make, b_std, kind):
    architecture = Architecture("fc2", architecture_named("fc2").layers, b_std=b_std)
    normal = np.random.default_rng(5).normal(size=(12, 8, 8, 3))
    scales = 10.0 ** np.array([-25, -18, -12, -3, 0, 3, 12, 18, 18.7, 19.2, 25, 37])
    x = (normal * scales[:, None, None, None]).astype(np.float32)
    single, double = (make(KernelSpec(architecture, kind, t)) for t in ("float32", "float64"))
    got = single.block(*_prepared(single, x, x))
    with np.errstate(over="ignore"):
        want = double.block(*_prepared(double, x.astype(float), x.astype(float)))
        fits = np.isfinite(want.astype(np.float32))
    np.testing.assert_allclose(got[fits], want[fits], rtol=2e-6, atol=1e-37)
    assert not np.isfinite(got[~fits]).any()
    (pulled,), (exact,) = (
        engine.block_vjp(*_prepared(engine, *[x.astype(t)] * 2), np.ones(got.shape, t), False)[1]
        for engine, t in ((single, "float32"), (double, "float64"))
    )
    for image, right in zip(pulled, exact, strict=True):
        if np.isfinite(image).all():
            assert relative_error(image, right) < 1e-5


@pytest.mark.parametrize("exponent", [-160, -120, 120, 150])
def test_float64_images_of_any_size_have_right_kernels(exponent):
    architecture = Architecture("fc2", architecture_named("fc2").layers, b_std=0.0)
    engine = make_engine("dense", KernelSpec(architecture, "ntk", "float64"), 1)
    x = _images(4, 0)
    x[1] = x[0] * (1 + 1e-4 * x[2])
    want = engine.block(*_prepared(engine, x, x))
    scaled = x * 2.0 ** (3 * exponent)
    got = engine.block(*_prepared(engine, scaled, scaled))
    np.testing.assert_allclose(np.ldexp(got, -6 * exponent), want, rtol=1e-13)


@NATIVE
def test_native_code_and_plain_jax_agree_for_any_number_of_threads():
    spec = _spec("fc3")
    x1, x2 = _images(300, 0), _images(4096, 1)  # enough for several threads
    x2[:3] = x1[:3]
    cotangent = np.random.default_rng(2).normal(size=(300, 4096))
    one, two = (_results(make_engine("dense", spec, n), x1, x2, cotangent) for n in (1, 2))
    for first, second, plain in zip(
        one, two, _results(_plain(spec), x1, x2, cotangent), strict=True
    ):
        assert np.array_equal(first, second)
        assert relative_error(first, plain) < 1e-13


@pytest.mark.parametrize("make", ENGINES)
@pytest.mark.parametrize("both", [False, True])
def test_linearise_pulls_back_what_block_vjp_does(both, make):
    x1, x2 = _images(5, 0, dtype="float32"), _images(30, 1, dtype="float32")
    x2[0] = x1[0]
    cotangent = np.ones((5, 30), np.float32)
    engine = make(_spec("fc3", "float32"))
    prepared = _prepared(engine, x1, x2)
    kernel, pullback = engine.linearise(*prepared, both)
    again, pulled = engine.block_vjp(*prepared, cotangent, both)
    assert np.array_equal(kernel, engine.block(*prepared))
    assert np.array_equal(kernel, again)
    assert len(pulled) == (2 if both else 1)
    for got, want in zip(pullback(cotangent), pulled, strict=True):
        assert np.array_equal(got, want)


def test_residuals_are_the_images_and_one_number_a_pair():
    engine = make_engine("dense", _spec("fc3", "float32"), 1)
    x1, x2 = _prepared(engine, _images(5, 0, dtype="float32"), _images(30, 1, dtype="float32"))
    assert engine.residual_bytes(x1, x2, True) == 4 * (5 * 30 + (5 + 30) * (60 + 1))


@needs_neural_tangents
@pytest.mark.parametrize("coincide", [False, True])
def test_the_assembled_gradient_is_that_of_the_whole_loss(coincide):
    spec, rng = _spec("fc2"), np.random.default_rng(3)
    images, labels = _images(5, 4), rng.normal(size=(5, 3))
    resident, targets = _images(20, 5, dtype="float32"), rng.normal(size=(18, 3))
    if coincide:
        images[3] = images[1]
        images[2] = resident[7]
    rows, ridge = rng.permutation(20)[:18], 1e-2 if coincide else 1e-6
    regression, gradient = assembled(
        spec, (images, labels), resident, rows, targets, Tiling(2, 7), ridge, "dense"
    )
    loss, expected, _ = loss_and_gradients(
        spec, images, labels, resident[rows].astype("float64"), targets, ridge
    )
    assert regression.loss == pytest.approx(loss, rel=1e-11)
    assert relative_error(gradient, expected) < 1e-10


def test_auto_is_dense_for_fully_connected_networks_only():
    for name in ("fc1", "fc4"):
        assert make_engine("auto", _spec(name), 1).name == "dense"
    with pytest.raises(UserError, match="fully connected ReLU networks only, not 'convnet'"):
        make_engine("dense", _spec("convnet"), 1)
    for layers in ((Flatten(), Dense()), (Conv(), Relu(), Flatten(), Dense(), Relu(), Dense())):
        assert dense.dense_network(Architecture("other", layers)) is None


@NATIVE
def test_native_code_that_computes_something_else_is_not_used(monkeypatch, caplog):
    right = dense_cpu.kernel
    monkeypatch.setattr(dense_cpu, "kernel", lambda *a, **k: right(*a, **k) * np.float32(1.001))
    spec = _spec("fc1", "float32")
    # Engines, and whether native code is right, are remembered for the process.
    caches = dense_engine.make_engine, dense_engine._native_is_right
    for cache in caches:
        cache.cache_clear()
    try:
        engine = make_engine("auto", spec, 1)
    finally:
        for cache in caches:
            cache.cache_clear()
    assert "differ from plain JAX by 1.0e-03" in caplog.text
    x1 = _images(3, 0, dtype="float32")
    block, plain = (made.block(*_prepared(made, x1, x1)) for made in (engine, _plain(spec)))
    assert np.array_equal(block, plain)


def test_a_missing_native_library_is_said(monkeypatch, caplog):
    monkeypatch.setattr(dense_cpu, "unavailable", lambda: "No compiler was found.")
    dense_engine.make_engine.cache_clear()
    engine = make_engine("auto", _spec("fc1", "float32"), 1)
    dense_engine.make_engine.cache_clear()
    assert engine.name == "dense"
    assert "No compiler was found. Using plain JAX instead" in caplog.text


@NATIVE
@pytest.mark.parametrize("level", dense_cpu.runnable_levels())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_library_agrees(level, dtype):
    network, rng = dense.dense_network(architecture_named("fc3")), np.random.default_rng(0)
    gaps = rng.uniform(0, 1.9, (3, 70)).astype(dtype)
    gaps[0, :2] = 0, 1e-9
    rms1, rms2 = rng.uniform(0.5, 2, 3).astype(dtype), rng.uniform(0.5, 2, 70).astype(dtype)
    inputs = "ntk", gaps, rms1, rms2
    with enable_x64(dtype == "float64"):
        native = functools.partial(dense_cpu.kernel, network, level=level, threads=2)(*inputs)
        pulled = dense_cpu.kernel_vjp(network, *inputs, gaps, level=level, threads=2)
        expected = dense.kernel(network, *inputs), *dense.kernel_vjp(network, *inputs, gaps)
    for got, want in zip((native, *pulled), expected, strict=True):
        error = relative_error(np.asarray(got), np.asarray(want))
        assert error < (2e-6 if dtype == "float32" else 1e-13)


@NATIVE
@pytest.mark.parametrize("wrong", range(4))
def test_arrays_of_a_wrong_shape_are_refused(wrong):
    shapes = [(3, 70), (3,), (70,), (3, 70)]
    shapes[wrong] = tuple(size - 1 for size in shapes[wrong])
    gaps, rms1, rms2, cotangent = (np.ones(shape, np.float32) for shape in shapes)
    network = dense.dense_network(architecture_named("fc3"))
    with pytest.raises(Exception, match="shapes of arrays and network do not fit"):
        dense_cpu.kernel_vjp(network, "ntk", gaps, rms1, rms2, cotangent, threads=1)


@NATIVE
def test_a_network_without_hidden_layers_is_refused():
    gaps, rms1, rms2 = (np.ones(shape, np.float32) for shape in ((3, 5), (3,), (5,)))
    with pytest.raises(Exception, match="shapes of arrays and network do not fit"):
        dense_cpu.kernel(DenseNetwork(-2, 2.0, 0.01), "ntk", gaps, rms1, rms2, threads=1)


_BLOCK = """
import hashlib, numpy as np
from kipper.common.architecture import KernelSpec, architecture_named
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages

digest = hashlib.sha256()
for dtype in ("float32", "float64"):
    engine = make_engine("dense", KernelSpec(architecture_named("fc2"), "ntk", dtype), 2)
    rng = np.random.default_rng(0)
    sides = [rng.normal(size=(n, 28, 28, 1)).astype(dtype) for n in (40, 300)]
    sides[0][:4] = sides[1][:4] + sides[0][:4] / 1000
    x1, x2 = (PreparedImages(side, engine.features(side)) for side in sides)
    kernel, pulled = engine.block_vjp(x1, x2, np.ones((40, 300), dtype), True)
    digest.update(b"".join(array.tobytes() for array in (kernel, *pulled)))
print(digest.hexdigest())
"""


@NATIVE
@pytest.mark.thorough
@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is not installed")
def test_a_worker_that_is_bound_to_one_core_makes_the_same_bits():
    # Honest workers that differ would be taken for liars.
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    core = ("taskset", "-c", str(min(os.sched_getaffinity(0))))
    program = (sys.executable, "-c", _BLOCK)
    bound, free = (
        subprocess.run([*before, *program], env=environment, capture_output=True, check=True).stdout
        for before in (core, ())
    )
    assert bound == free
