"""`kipper.kernel` and `kipper.kernel_vjp` against plain float64 and its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from installation import needs_neural_tangents
from oracle import reference_kernel, relative_error

import kipper
from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.errors import UserError
from kipper.common.precision import enable_x64
from kipper.launch import kernels
from kipper.server.tiling import Tiling

RNG = np.random.default_rng(0)
X1, X2 = RNG.normal(size=(5, 8, 8, 2)), RNG.normal(size=(7, 8, 8, 2))
COTANGENT = RNG.normal(size=(5, 7))


@pytest.mark.parametrize(
    ("architecture", "kind", "tiling"),
    [
        ("conv_vec1", "ntk", None),
        pytest.param("fc2", "nngp", None, marks=needs_neural_tangents),
        pytest.param("fc2", "ntk", Tiling(2, 3), marks=needs_neural_tangents),
    ],
)
def test_kernels_and_gradients_are_the_reference_ones(architecture, kind, tiling, monkeypatch):
    if tiling:
        monkeypatch.setattr(kernels, "tiling_for", lambda *args: tiling)
    reference = reference_kernel(KernelSpec(architecture_named(architecture), kind, "float64"))
    with enable_x64():
        want = np.asarray(jax.jit(reference)(X1, X2))
        weighted = lambda a, b: jnp.sum(COTANGENT * reference(a, b))  # noqa: E731
        gradients = [np.asarray(g) for g in jax.jit(jax.grad(weighted, (0, 1)))(X1, X2)]
    for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-5)):
        names = {"architecture": architecture, "kernel": kind, "dtype": dtype}
        got = kipper.kernel(X1, X2, **names)
        assert got.dtype == dtype
        assert relative_error(got, want) < tolerance
        got, g1, g2 = kipper.kernel_vjp(X1, X2, COTANGENT, **names)
        assert relative_error(got, want) < tolerance
        assert relative_error(g1, gradients[0]) < tolerance
        assert relative_error(g2, gradients[1]) < tolerance
        alone = kipper.kernel(X1, **names)
        assert alone.dtype == dtype
        assert relative_error(alone, kipper.kernel(X1, X1, **names)) < tolerance


def test_images_with_themselves_give_float64_unless_a_dtype_is_named():
    assert kipper.kernel(X1, architecture="fc1").dtype == np.float64
    assert kipper.kernel(X1, X2, architecture="fc1").dtype == np.float32


@pytest.mark.parametrize("architecture", ["convnet", "fc1"])
def test_the_order_of_batches_changes_no_bit(architecture):
    kernel = kipper.kernel(X1, X2, architecture=architecture)
    np.testing.assert_array_equal(kipper.kernel(X2, X1, architecture=architecture), kernel.T)
    got = kipper.kernel_vjp(X2, X1, COTANGENT.T, architecture=architecture)
    want = kipper.kernel_vjp(X1, X2, COTANGENT, architecture=architecture)
    for one, other in zip((got[0].T, got[2], got[1]), want, strict=True):
        np.testing.assert_array_equal(one, other)


def test_images_without_channels_come_back_without():
    grey = X1[..., 0]
    np.testing.assert_array_equal(
        kipper.kernel(grey, architecture="fc1"), kipper.kernel(grey[..., None], architecture="fc1")
    )
    _, g1, g2 = kipper.kernel_vjp(grey, grey[:3], COTANGENT[:, :3], architecture="fc1")
    assert (g1.shape, g2.shape) == ((5, 8, 8), (3, 8, 8))


@pytest.mark.parametrize("architecture", ["convnet", "fc1"])
def test_empty_batches_have_empty_results(architecture):
    assert kipper.kernel(X1[:0], architecture=architecture).shape == (0, 0)
    assert kipper.kernel(X1, X2[:0], architecture=architecture).shape == (5, 0)
    empty = COTANGENT[:0]
    kernel, g1, g2 = kipper.kernel_vjp(X1[:0], X2, empty, architecture=architecture)
    assert (kernel.shape, g1.shape) == ((0, 7), (0, 8, 8, 2))
    np.testing.assert_array_equal(g2, np.zeros_like(X2))


def test_boolean_images_are_zeros_and_ones():
    found = kipper.kernel(X1 > 0, architecture="fc1")
    np.testing.assert_array_equal(found, kipper.kernel((X1 > 0) * 1.0, architecture="fc1"))


def test_rows_of_numbers_are_images_of_fully_connected_networks():
    rows = X1.reshape(5, -1), X2.reshape(7, -1)
    named = {"architecture": "fc2", "dtype": "float64"}
    expected = kipper.kernel_vjp(X1, X2, COTANGENT, **named)
    found = kipper.kernel_vjp(*rows, COTANGENT, **named)
    assert found[1].shape == rows[0].shape
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.ravel(), other.ravel())


def test_channels_that_come_first_are_doubted():
    images = np.zeros((2, 3, 8, 8))
    with pytest.warns(kipper.DataWarning, match="x1 is of shape .* taken as 3 x 8 pixels"):
        kipper.kernel(images, architecture="conv_vec1")
    kipper.kernel(images, architecture="fc1")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: kipper.kernel(X1, kernel="rbf"), "kernel is 'rbf'; it must be ntk or nngp."),
        (lambda: kipper.kernel(X1, dtype="half"), "dtype is 'half'"),
        (lambda: kipper.kernel(X1, architecture="vgg"), "Unknown architecture 'vgg'"),
        (lambda: kipper.kernel(X1, engine="abacus"), "Unknown engine 'abacus'"),
        (lambda: kipper.kernel(X1[0, 0]), "x1 is of shape"),
        (lambda: kipper.kernel(X1 + 1j), "dtype complex128"),
        (lambda: kipper.kernel(X1[..., :0]), "at least one pixel and one channel"),
        (
            lambda: kipper.kernel(X1[:, :0], architecture="fc1"),
            "at least one pixel and one channel",
        ),
        (lambda: kipper.kernel(np.ma.masked_less(X1, 0)), "x1 is a masked array"),
        (lambda: kipper.kernel(X1, X2[:, :, :4]), "x2 holds images of shape (8, 4, 2)"),
        (lambda: kipper.kernel(X1[:, :4, :4]), "too small for 'convnet'"),
        (lambda: kipper.kernel_vjp(X1, X2, 1j * COTANGENT), "cotangent is a ndarray of dtype comp"),
        (
            lambda: kipper.kernel_vjp(X1, X2, np.ma.masked_less(COTANGENT, 0)),
            "cotangent is a masked array",
        ),
        (lambda: kipper.kernel_vjp(X1, X2, COTANGENT.T), "it must be (5, 7), as the kernel."),
    ],
)
def test_a_mistake_gets_one_sentence(call, sentence):
    with pytest.raises(UserError) as raised:
        call()
    assert sentence in str(raised.value)
