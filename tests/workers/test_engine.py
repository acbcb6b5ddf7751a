"""The neural-tangents engine against neural-tangents itself."""

import jax
import numpy as np
import pytest
from installation import needs_neural_tangents
from oracle import relative_error, untouched_kernel

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.precision import enable_x64
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages

pytestmark = needs_neural_tangents

ARCHITECTURES = [
    ("fc1", (5, 5, 3)),
    pytest.param("fc4", (5, 5, 3), marks=pytest.mark.thorough),
    pytest.param("conv_vec3", (6, 6, 2), marks=pytest.mark.thorough),
    pytest.param("convnet", (8, 8, 3), marks=pytest.mark.thorough),
    pytest.param("convnet3", (11, 9, 1), marks=pytest.mark.thorough),
    pytest.param("myrtle5", (8, 8, 1), marks=pytest.mark.thorough),
    pytest.param("myrtle7", (8, 8, 1), marks=pytest.mark.thorough),
    pytest.param("myrtle10", (4, 4, 1), marks=pytest.mark.thorough),
    ("fc2_erf", (4, 4, 2)),
    ("convnet1_gelu", (4, 5, 1)),
    ("conv_gap1_leaky", (3, 4, 2)),
]


def prepared(images):
    """As the engine wants them; it has no features of its own."""
    return PreparedImages(images, np.empty((len(images), 0), images.dtype))


def _images(shape, n, seed, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=(n, *shape)).astype(dtype)


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize(("name", "shape"), ARCHITECTURES)
def test_blocks_are_those_of_the_untouched_library(name, shape, kind):
    spec = KernelSpec(architecture_named(name), kind, "float64")
    x1, x2 = _images(shape, 3, 0), _images(shape, 4, 1)
    with enable_x64():
        expected = np.asarray(jax.jit(untouched_kernel(spec))(x1, x2))
    got = make_engine("neural_tangents", spec, 1).block(prepared(x1), prepared(x2))
    assert got.dtype == np.float64
    assert relative_error(got, expected) < 1e-14


@pytest.mark.parametrize(("name", "shape"), [*ARCHITECTURES[:4], *ARCHITECTURES[-3:]])
def test_both_vjps_are_those_of_the_untouched_library(name, shape):
    spec = KernelSpec(architecture_named(name), "ntk", "float64")
    x1, x2 = _images(shape, 3, 0), _images(shape, 4, 1)
    cotangent = np.random.default_rng(2).normal(size=(3, 4))
    with enable_x64():
        kernel = untouched_kernel(spec)
        pull = jax.jit(lambda a, b, cotangent: jax.vjp(kernel, a, b)[1](cotangent))
        expected = [np.asarray(piece) for piece in pull(x1, x2, cotangent)]
    engine = make_engine("neural_tangents", spec, 1)
    block, both = engine.block_vjp(prepared(x1), prepared(x2), cotangent, both=True)
    assert relative_error(block, engine.block(prepared(x1), prepared(x2))) < 1e-14
    for got, want in zip(both, expected, strict=True):
        assert relative_error(got, want) < 1e-12
    _, (one,) = engine.block_vjp(prepared(x1), prepared(x2), cotangent, both=False)
    assert relative_error(one, expected[0]) < 1e-12


def test_linearise_pulls_back_what_block_vjp_does():
    spec = KernelSpec(architecture_named("fc2"), "ntk", "float32")
    x1, x2 = _images((4, 4, 1), 3, 0, np.float32), _images((4, 4, 1), 5, 1, np.float32)
    cotangent = np.ones((3, 5), np.float32)
    engine = make_engine("neural_tangents", spec, 1)
    kernel, pullback = engine.linearise(prepared(x1), prepared(x2), both=True)
    assert relative_error(kernel, engine.block(prepared(x1), prepared(x2))) < 1e-6
    assert kernel.dtype == np.float32
    _, expected = engine.block_vjp(prepared(x1), prepared(x2), cotangent, both=True)
    for got, want in zip(pullback(cotangent), expected, strict=True):
        assert relative_error(got, want) < 1e-5


def test_residuals_grow_with_the_block_and_with_pooling():
    small = prepared(np.zeros((2, 8, 8, 1), np.float32))
    large = prepared(np.zeros((6, 8, 8, 1), np.float32))
    fc = make_engine("neural_tangents", KernelSpec(architecture_named("fc1"), "ntk", "float32"), 1)
    pooled = make_engine(
        "neural_tangents", KernelSpec(architecture_named("convnet3"), "ntk", "float32"), 1
    )
    assert fc.residual_bytes(small, small, False) < fc.residual_bytes(small, large, False)
    assert pooled.residual_bytes(small, small, False) > 50 * fc.residual_bytes(small, small, False)


@pytest.mark.parametrize("name", ["fc2", "convnet3", "fc2_leaky", "fc2_gelu", "conv_vec1_erf"])
def test_an_image_with_itself_has_the_same_kernel_in_every_block_shape(name):
    """The untouched library's differs by 1e-9 and more, from one block shape to another."""
    spec = KernelSpec(architecture_named(name), "ntk", "float64")
    images = _images((8, 8, 1), 6, 0)
    engine = make_engine("neural_tangents", spec, 1)
    whole = np.diag(engine.block(prepared(images), prepared(images)))
    alone = np.array([engine.block(*[prepared(images[i : i + 1])] * 2)[0, 0] for i in range(6)])
    np.testing.assert_allclose(alone, whole, rtol=1e-14)


def test_fully_connected_kernel_of_an_image_with_itself_is_the_recursion():
    """At correlation 1: k' = k / 2, so K = W2 k / 2 + b2 and T = K + W2 t / 2 layer by layer."""
    spec = KernelSpec(architecture_named("fc2"), "ntk", "float64")
    image = _images((4, 4, 2), 1, 0)
    w2, b2 = spec.architecture.w_std**2, spec.architecture.b_std**2
    covariance = tangent = w2 * np.mean(image**2) + b2
    for _ in range(2):
        covariance = w2 * covariance / 2 + b2
        tangent = covariance + w2 * tangent / 2
    got = make_engine("neural_tangents", spec, 1).block(prepared(image), prepared(image))
    np.testing.assert_allclose(got, [[tangent]], rtol=1e-13)


def test_64_bit_mode_stays_off_outside():
    spec = KernelSpec(architecture_named("fc1"), "ntk", "float64")
    make_engine("neural_tangents", spec, 1).block(
        prepared(_images((3, 3, 1), 2, 0)), prepared(_images((3, 3, 1), 2, 1))
    )
    assert not jax.config.jax_enable_x64
