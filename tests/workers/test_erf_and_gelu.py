"""Kernels of erf, gelu and leaky ReLU: images of any scale and closeness, in both dtypes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from installation import needs_neural_tangents
from near_images import FAMILIES, near_pair
from oracle import relative_error, untouched_kernel

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.precision import enable_x64
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages
from kipper.workers.erf_and_gelu import erf_covariance_and_slope, gelu_covariance_and_slope

ROUNDING = np.finfo(float).eps


def _exact_erf(k, v1, v2):
    two = np.longdouble(2)
    ones = (1 + two * v1) * (1 + two * v2)
    turn = two / np.longdouble(np.arccos(np.longdouble(-1)))
    return turn * np.arcsin(two * k / np.sqrt(ones)), 2 * turn / np.sqrt(ones - 4 * k * k)


def _exact_gelu(k, v1, v2):
    ones, pi = (1 + v1) * (1 + v2), np.arccos(np.longdouble(-1))
    d = ones - k * k
    angle = np.arctan2(k, np.sqrt(d))
    covariance = ((k * k + v1 * v2 * d) / (ones * np.sqrt(d)) + k * angle) / (2 * pi) + k / 4
    slope = k / np.sqrt(d) * (1 / d + (1 - v1 * v2) / ones + 1) / (2 * pi)
    return covariance, slope + np.longdouble(1) / 4 + angle / (2 * pi)


@pytest.mark.parametrize(
    ("function", "exact"),
    [(erf_covariance_and_slope, _exact_erf), (gelu_covariance_and_slope, _exact_gelu)],
)
@settings(max_examples=100, deadline=None)
@given(
    first=st.floats(-6, 5), second=st.floats(-6, 5), closeness=st.floats(-12, 0), sign=st.booleans()
)
def test_formulas_are_those_of_long_double(function, exact, first, second, closeness, sign):
    """The variances 10^first and 10^second, and 1 - c = 10^closeness, all log-uniform."""
    v1, v2 = 10**first, 10**second
    k = float((-1) ** sign * (1 - 10**closeness) * np.sqrt(v1 * v2))
    with enable_x64():
        got = [float(x) for x in function(*map(jnp.float64, (k, v1 + v2, v1 * v2)))]
    want = [float(x) for x in exact(*map(np.longdouble, (k, v1, v2)))]
    # k is rounded. Of gelu, most cancels at negative correlations.
    tolerance = 300 * ROUNDING * (1 + v1 * v2 / (1 + v1 + v2))
    sizes = (abs(k), 1.0) if function is gelu_covariance_and_slope else (0.0, 0.0)
    for value, reference, size in zip(got, want, sizes, strict=True):
        assert abs(value - reference) <= tolerance * max(abs(reference), size)


@pytest.mark.parametrize("function", [erf_covariance_and_slope, gelu_covariance_and_slope])
@pytest.mark.parametrize("variance", [1e-300, 1e-20, 1.0, 1e20, 1e150])
def test_an_image_with_itself_has_the_same_value_at_any_rounding_of_its_covariance(
    function, variance
):
    with enable_x64():
        rounded = variance * jnp.array([1 - 8 * ROUNDING, 1, 1 + 8 * ROUNDING])
        values, slopes = function(rounded, jnp.float64(2 * variance), jnp.float64(variance**2))
    np.testing.assert_allclose(values, values[1], rtol=1e-14)
    np.testing.assert_allclose(slopes, slopes[1], rtol=1e-14)


@pytest.mark.parametrize("function", [erf_covariance_and_slope, gelu_covariance_and_slope])
def test_an_overflow_is_not_a_number(function):
    for k in (1.0, 1e200):
        with enable_x64():
            values = function(*map(jnp.float64, (k, 1e200, np.inf)))
        assert np.isnan(values).all()


def _results(engine, x1, x2, dtype):
    one, two = (PreparedImages(x.astype(dtype), np.empty((len(x), 0), dtype)) for x in (x1, x2))
    kernel, pulled = engine.block_vjp(one, two, np.ones((len(x1), len(x2)), dtype), both=True)
    return [kernel, *pulled]


@functools.cache
def _untouched_function(name):
    kernel = untouched_kernel(KernelSpec(architecture_named(name), "ntk", "float64"))

    def results(x1, x2):
        values, pull = jax.vjp(kernel, x1, x2)
        return values, *pull(jnp.ones_like(values))

    return jax.jit(results)


def _untouched(name, x1, x2):
    """K, and the gradient of its sum, in float64."""
    with enable_x64():
        return [np.asarray(x) for x in _untouched_function(name)(*map(np.float64, (x1, x2)))]


@needs_neural_tangents
@pytest.mark.parametrize("scale", [1e-20, 1.0, 128.0, 1000.0])
@pytest.mark.parametrize(
    "name",
    ["fc2_erf", "fc2_gelu", pytest.param("conv_vec2_erf", marks=pytest.mark.thorough)],
)
def test_float32_blocks_are_those_of_the_untouched_library_in_float64(name, scale):
    spec = KernelSpec(architecture_named(name), "ntk", "float32")
    x1, x2 = (
        (scale * np.random.default_rng(seed).normal(size=(4, 5, 5, 2))).astype(np.float32)
        for seed in (0, 1)
    )
    x2[0] = x1[0] * np.float32(1.001)
    engine = make_engine("neural_tangents", spec, 1)
    for got, want in zip(
        _results(engine, x1, x2, np.float32), _untouched(name, x1, x2), strict=True
    ):
        assert got.dtype == np.float32
        assert relative_error(got, want) < 2e-7


def _angle_is_seen_in_float64(pair):
    """Not of a scaled copy, whose angle is the rounding of its pixels.

    The gradient of ReLUs goes along the difference in direction, at any size of it.
    """
    x1, x2 = pair.astype(np.longdouble).reshape(2, -1)
    squares = (x1 @ x1) * (x2 @ x2)
    return squares - (x1 @ x2) ** 2 > 1e-12 * squares


@needs_neural_tangents
@pytest.mark.parametrize(
    "name", ["fc1_erf", "fc1_leaky", pytest.param("fc1_gelu", marks=pytest.mark.thorough)]
)
@settings(max_examples=25, deadline=None)
@given(
    family=st.sampled_from(list(FAMILIES)),
    closeness=st.floats(-5, -1),
    scale=st.floats(-2, 3),
    seed=st.integers(0, 9),
)
def test_float32_keeps_near_images_apart(name, family, closeness, scale, seed):
    spec = KernelSpec(architecture_named(name), "ntk", "float32")
    pair = near_pair(family, 10**closeness, (5, 5, 2), np.random.default_rng(seed), 10**scale)
    engine = make_engine("neural_tangents", spec, 1)
    got = _results(engine, pair[:1], pair[1:], np.float32)
    want = _untouched(name, pair[:1], pair[1:])
    assert relative_error(got[0], want[0]) < 1e-6
    if name == "fc1_leaky" and not _angle_is_seen_in_float64(pair):
        return
    for single, double in zip(got[1:], want[1:], strict=True):
        assert relative_error(single, double) < 1e-3


@needs_neural_tangents
@pytest.mark.parametrize("name", ["fc2", "fc2_erf", "fc2_gelu"])
@pytest.mark.parametrize(
    ("dtype", "scales"),
    [("float32", (1e18, 1e19, 1e25)), ("float64", (1e76, 1e78, 1e100, 1e155, 1e160))],
)
def test_numbers_that_overflow_are_not_finite(name, dtype, scales):
    """K of images a scale larger is larger by its square; erf only saturates."""
    spec = KernelSpec(architecture_named(name), "nngp", dtype)
    engine = make_engine("neural_tangents", spec, 1)
    images = np.random.default_rng(0).normal(size=(3, 4, 4, 2))
    small = _results(engine, 1e10 * images, 1e10 * images[:2], dtype)[0].astype(np.longdouble)
    for scale in scales:
        got = _results(engine, scale * images, scale * images[:2], dtype)[0]
        factor = 1 if "erf" in name else (np.longdouble(scale) / 1e10) ** 2
        finite = np.isfinite(got)
        np.testing.assert_allclose(got[finite], (small * factor)[finite].astype(dtype), rtol=1e-5)
