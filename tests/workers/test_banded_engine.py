"""The banded engines as workers use them, and the choice among engines."""

import jax
import numpy as np
import pytest
from harness import assembled
from installation import needs_neural_tangents
from oracle import loss_and_gradients, relative_error

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.errors import UserError, WorkerError
from kipper.server.tiling import Tiling
from kipper.workers import banded_cpu, banded_cpu_engine, self_check
from kipper.workers.banded_engine import flat
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages

NATIVE = pytest.mark.skipif(
    banded_cpu.unavailable() is not None, reason=str(banded_cpu.unavailable())
)


def _images(count, seed, dtype="float64", shape=(9, 8, 2)):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(dtype)


def _prepared(engine, images):
    return PreparedImages(images, engine.features(images))


@NATIVE
@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_native_and_plain_jax_agree_with_their_gradients(kind):
    spec = KernelSpec(architecture_named("convnet3"), kind, "float64")
    x1, x2 = _images(3, 0), _images(18, 1)  # more than one vector of lanes, and a remainder
    cotangent = np.random.default_rng(2).normal(size=(3, 18))
    results = []
    for name in ("banded_cpu", "banded_xla"):
        engine = make_engine(name, spec, threads=2)
        first, second = _prepared(engine, x1), _prepared(engine, x2)
        kernel, both = engine.block_vjp(first, second, cotangent, both=True)
        _, (one,) = engine.block_vjp(first, second, cotangent, both=False)
        assert relative_error(one, both[0]) < 1e-13
        assert relative_error(kernel, engine.block(first, second)) < 1e-15
        results.append([kernel, *both])
    for native, plain in zip(*results, strict=True):
        assert relative_error(native, plain) < 1e-12


@pytest.mark.thorough
@NATIVE
@needs_neural_tangents
@pytest.mark.parametrize("coincide", [False, True])
def test_the_assembled_gradient_of_a_pooled_network_is_that_of_the_whole_loss(coincide):
    spec = KernelSpec(architecture_named("convnet"), "ntk", "float64")
    rng = np.random.default_rng(3)
    images, labels = _images(5, 4), rng.normal(size=(5, 3))
    resident, targets = _images(20, 5, "float32"), rng.normal(size=(18, 3))
    if coincide:
        images[3] = images[1]
        images[2] = resident[7]
    rows, ridge = rng.permutation(20)[:18], 1e-2 if coincide else 1e-6
    regression, gradient = assembled(
        spec, (images, labels), resident, rows, targets, Tiling(2, 17), ridge, "banded_cpu"
    )
    loss, expected, _ = loss_and_gradients(
        spec, images, labels, resident[rows].astype(np.float64), targets, ridge
    )
    assert regression.loss == pytest.approx(loss, rel=1e-11)
    assert relative_error(gradient, expected) < 1e-10


@NATIVE
def test_bits_do_not_depend_on_threads_or_on_how_rows_are_prepared():
    spec = KernelSpec(architecture_named("myrtle5"), "ntk", "float32")
    x1, x2 = _images(5, 0, "float32"), _images(21, 1, "float32")
    cotangent = np.ones((5, 21), np.float32)
    results = []
    for threads in (1, 2):
        engine = make_engine("banded_cpu", spec, threads)
        second = _prepared(engine, x2)
        alone = np.concatenate([engine.features(x2[i : i + 1]) for i in range(21)])
        assert np.array_equal(alone, second.features)
        first = _prepared(engine, x1)
        kernel, cotangents = engine.block_vjp(first, second, cotangent, both=True)
        results.append([engine.block(first, second), kernel, *cotangents])
    for one, two in zip(*results, strict=True):
        assert np.array_equal(one, two)


@NATIVE
@pytest.mark.parametrize("name", ["convnet", "myrtle5", "conv_vec2"])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_arrays_kept_for_the_pullback_change_no_bit(name, kind):
    spec = KernelSpec(architecture_named(name), kind, "float32")
    engine = make_engine("banded_cpu", spec, threads=2)
    first = _prepared(engine, _images(3, 0, "float32"))
    second = _prepared(engine, _images(21, 1, "float32"))
    cotangent = np.random.default_rng(2).normal(size=(3, 21)).astype(np.float32)
    for both in (True, False):
        kernel, pullback = engine.linearise(first, second, both)
        again, expected = engine.block_vjp(first, second, cotangent, both)
        assert np.array_equal(kernel, again)
        for got, want in zip(pullback(cotangent), expected, strict=True):
            assert np.array_equal(got, want)
    # The arrays that a pullback keeps are in no public result.
    kept = banded_cpu.linearised_cross_kernel(
        engine._network(first.images), kind, *flat(first, second), threads=2
    )[1]
    assert engine.residual_bytes(first, second, both=True) == kept.nbytes
    assert (kept.nbytes == 0) == (name == "conv_vec2")


@NATIVE
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-13)])
@pytest.mark.parametrize(("name", "kind"), [("convnet", "ntk"), ("conv_vec3", "nngp")])
def test_images_with_themselves_have_half_the_pairs_and_equal_results(name, kind, dtype, tolerance):
    engine = make_engine("banded_cpu", KernelSpec(architecture_named(name), kind, dtype), 2)
    images = _images(11, 0, dtype)
    if dtype == "float32":
        images[7] = images[3] * 1.0001  # a pair that float64 evaluates
    same, copy = _prepared(engine, images), _prepared(engine, images.copy())
    cotangent = np.random.default_rng(2).normal(size=(11, 11)).astype(dtype)
    kernel, pullback = engine.linearise(same, same, both=True)
    assert np.array_equal(kernel, kernel.T)
    assert np.array_equal(kernel, engine.block(same, same))
    expected, cotangents = engine.block_vjp(same, copy, cotangent, both=True)
    assert np.array_equal(np.triu(kernel), np.triu(expected))
    again, at_once = engine.block_vjp(same, same, cotangent, both=True)
    assert np.array_equal(again, kernel)
    for got, alike, want in zip(pullback(cotangent), at_once, cotangents, strict=True):
        assert got.dtype == dtype
        assert np.array_equal(got, alike)
        assert relative_error(got, want) < tolerance
    other = same.take(np.arange(10, -1, -1))
    reversed_block = engine.block(same, other)
    assert np.array_equal(np.triu(reversed_block[:, ::-1]), np.triu(kernel))
    values = images[0].size + same.features.shape[1]
    assert engine.residual_bytes(same, same, both=True) == 11 * 12 * values * images.itemsize


@NATIVE
def test_auto_is_native_for_convolutions():
    for name, engine in (("convnet", "banded_cpu"), ("conv_vec2", "banded_cpu")):
        spec = KernelSpec(architecture_named(name), "ntk", "float32")
        assert make_engine("auto", spec, 1).name == engine


def test_without_the_native_library_auto_says_what_is_missing(monkeypatch, caplog):
    monkeypatch.setattr(banded_cpu, "unavailable", lambda: "No compiler was found.")
    spec = KernelSpec(architecture_named("convnet"), "ntk", "float32")
    assert make_engine("auto", spec, 1).name == "banded_xla"
    assert "No compiler was found. Using banded_xla instead" in caplog.text
    with pytest.raises(UserError, match="No compiler was found"):
        make_engine("banded_cpu", spec, 1)


@NATIVE
@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        ("judged_cross_kernel", "kernel differs from plain NumPy by 1.0e-02"),
        ("cross_kernel_vjp", "gradient differs from the differences of its kernel by"),
        ("variance_maps_vjp", "gradient differs from the differences of its kernel by"),
        ("listed_kernels_vjp", "symmetric kernel differs from that of others by"),
    ],
)
def test_a_native_library_that_computes_something_else_is_refused(monkeypatch, function, complaint):
    spec = KernelSpec(architecture_named("convnet3"), "nngp", "float32")
    right = getattr(banded_cpu, function)
    monkeypatch.setattr(
        banded_cpu,
        function,
        lambda *a, **k: jax.tree.map(
            lambda result: result if result.dtype == bool else result * np.float32(1.01),
            right(*a, **k),
        ),
    )
    self_check.check_native.cache_clear()
    banded_cpu_engine.unchecked_engine.cache_clear()
    with pytest.raises(WorkerError, match=complaint):
        make_engine("auto", spec, 1)
    banded_cpu_engine.unchecked_engine.cache_clear()


def test_banded_engines_refuse_fully_connected_architectures():
    spec = KernelSpec(architecture_named("fc1"), "ntk", "float32")
    with pytest.raises(UserError, match="convolutional ReLU networks only, not 'fc1'"):
        make_engine("banded_xla", spec, 1)
