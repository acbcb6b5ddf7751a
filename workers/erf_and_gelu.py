"""The kernels of erf and gelu, at images of any scale.

k is the covariance of two Gaussians in front of the activation; `total` is the sum of their
variances and `product` their product, all arrays of one floating dtype. The textbook forms subtract
k^2 from (1 + 2 v1)(1 + 2 v2) / 4 or from (1 + v1)(1 + v2). At variances of a million both are near
10^12, and for images that are close their difference is near 10^6, so it would lose six digits.
Here the difference is 1 or more plus v1 v2 - k^2, which is never negative, and 0 for an image with
itself.
"""

import math

import jax.numpy as jnp
from jax import Array, lax

# v1 v2 - k^2 of up to so many machine epsilons of v1 v2 is rounding of the sums over pixels.
_ROUNDING_UNITS = 64


def erf_covariance_and_slope(k: Array, total: Array, product: Array) -> tuple[Array, Array]:
    """E[erf(a) erf(b)] and its derivative by k, E[erf'(a) erf'(b)]; NaN if v1 v2 overflows."""
    root = jnp.sqrt(1 + 2 * total + 4 * _determinant(k, product))
    return (2 / math.pi) * jnp.arctan2(2 * k, root), (4 / math.pi) / root


def gelu_covariance_and_slope(k: Array, total: Array, product: Array) -> tuple[Array, Array]:
    """E[gelu(a) gelu(b)] and its derivative by k, E[gelu'(a) gelu'(b)]; NaN if v1 v2 overflows."""
    difference = 1 + total + _determinant(k, product)  # (1 + v1)(1 + v2) - k^2
    root = jnp.sqrt(difference)
    of_ones = 1 / (1 + total + product)
    half_turn = jnp.arctan2(k, root) * (0.5 / math.pi) + 0.25
    covariance = (k * (k * of_ones) + product * of_ones * difference) / root
    slope = (1 / difference + (2 + total) * of_ones) * (k / root)
    scale = 0.5 / math.pi
    return scale * covariance + k * half_turn, scale * slope + half_turn


def _determinant(k: Array, product: Array) -> Array:
    """v1 v2 - k^2, or 0 if that is rounding, with its derivative; NaN if it overflows."""
    determinant = product - k * k
    rounding = _ROUNDING_UNITS * jnp.finfo(product.dtype).eps * product
    # Infinity minus itself is NaN.
    return determinant - lax.stop_gradient(jnp.where(determinant > rounding, 0, determinant))
