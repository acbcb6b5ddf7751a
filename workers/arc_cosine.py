"""The arc-cosine kernels of a ReLU, and their derivatives, without cancellation near c = 1.

For two Gaussians with standard deviations s1, s2 and covariance k = c s, s = s1 s2, a ReLU gives
    covariance k' = s k1(c) / 2,  k1(c) = (sqrt(1 - c^2) + (pi - acos c) c) / pi,
    tangent    n' = n k0(c) / 2,  k0(c) = 1 - acos(c) / pi.
With t = |c| and g(t) = sqrt(1 - t^2) - t acos t, these are evaluated as
    s k1(c) = max(k, 0) + s g(t) / pi,  k0(c) = acos(t) / pi, or 1 minus that if c >= 0.
If 1 - t is 0 up to rounding, t counts as 1, and the derivatives that are singular there count as
0, which is their limit. Derivation: docs/banded_kernel.md.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

ROUNDING_UNITS = 4  # 1 - |c| of up to so many machine epsilons counts as 0

# For float32 and 0 <= t <= 1, with u = sqrt(1 - t): acos t = u P(t) and g(t) = u^3 Q(t), with a
# relative error of 1e-7 (docs/banded_kernel.md). Lowest power first.
_P = (
    1.5707961320877075,
    -0.21458470821380615,
    0.08874904364347458,
    -0.04877406731247902,
    0.026844657957553864,
    -0.011096799746155739,
    0.0022794196847826242,
)
_Q = (
    0.9999998807907104,
    -0.07078687101602554,
    0.018684444949030876,
    -0.007156701758503914,
    0.0026009585708379745,
    -0.0005327846156433225,
)

# For float64 and |x| <= 1/2: asin x = x + x z R(z) / S(z) with z = x^2, from FreeBSD's e_asin.c
# (Sun Microsystems 1993), within one unit in the last place.
_R = (
    1.66666666666666657415e-01,
    -3.25565818622400915405e-01,
    2.01212532134862925881e-01,
    -4.00555345006794114027e-02,
    7.91534994289814532176e-04,
    3.47933107596021167570e-05,
)
_S = (
    1.0,
    -2.40339491173441421878e00,
    2.02094576023350569471e00,
    -6.88283971605453293030e-01,
    7.70381505559019352791e-02,
)


class _Angle(NamedTuple):
    """The correlation c in [-1, 1] and its functions 1 - |c|, acos |c| and g(|c|)."""

    c: Array
    gap: Array
    acos: Array
    rest: Array


def _polynomial(coefficients: tuple[float, ...], t: Array) -> Array:
    """A polynomial by Horner's scheme; the first coefficient is the constant."""
    value = coefficients[-1] * t + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        value = value * t + coefficient
    return value


def _is_double(array: Array) -> bool:
    return array.dtype == jnp.float64


def _angle(k: Array, s: Array) -> _Angle:
    # Where s = 0, k = 0 too: any finite reciprocal gives the right c = 0. Where s has overflowed,
    # its reciprocal 0 would give a finite wrong c; 0 s makes it NaN.
    c = jnp.clip(k * reciprocal(s) + 0 * s, -1, 1)
    gap = 1 - jnp.abs(c)
    gap = jnp.where(gap <= ROUNDING_UNITS * jnp.finfo(k.dtype).eps, 0, gap)
    return _Angle(c, gap, *acos_and_rest(gap))


def acos_and_rest(gap: Array) -> tuple[Array, Array]:
    """acos t and g(t) for t = 1 - gap, with gaps from 0 to 1."""
    t, root = 1 - gap, jnp.sqrt(gap)
    if not _is_double(gap):
        return root * _polynomial(_P, t), root * gap * _polynomial(_Q, t)
    # acos t = 2 asin sqrt(gap / 2) where t is large, else pi / 2 - asin t.
    large = gap < 0.5
    x = jnp.where(large, math.sqrt(0.5) * root, t)
    z = jnp.where(large, 0.5 * gap, t * t)
    asin = x + x * z * _polynomial(_R, z) / _polynomial(_S, z)
    acos = jnp.where(large, 2 * asin, math.pi / 2 - asin)
    return acos, root * jnp.sqrt(2 - gap) - t * acos


def reciprocal(x: Array) -> Array:
    """1 / x for x > 0, and a finite number for 0."""
    return 1 / jnp.maximum(x, jnp.finfo(x.dtype).tiny)


def _covariance(k: Array, s: Array, angle: _Angle) -> Array:
    """s k1(c) / 2."""
    return 0.5 * jnp.maximum(k, 0) + s * angle.rest * (0.5 / math.pi)


def _half_k0(angle: _Angle) -> Array:
    """k0(c) / 2, which is also the derivative of `_covariance` by k."""
    turn = angle.acos * (0.5 / math.pi)
    return jnp.where(angle.c >= 0, 0.5 - turn, turn)


def _sine(angle: _Angle) -> Array:
    """sqrt(1 - c^2)."""
    return jnp.sqrt(angle.gap * (2 - angle.gap))


@jax.custom_jvp
def relu_covariance(k: Array, s: Array) -> Array:
    """The covariance behind a ReLU, from the covariance k in front of it and s = s1 s2.

    Arrays have one floating dtype and shape; k is 0 where s is 0.
    """
    return _covariance(k, s, _angle(k, s))


@relu_covariance.defjvp
def _relu_covariance_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    k, s = primals
    dk, ds = tangents
    angle = _angle(k, s)
    # k1 - c k0 = sqrt(1 - c^2) / pi
    tangent = _half_k0(angle) * dk + _sine(angle) * (0.5 / math.pi) * ds
    return _covariance(k, s, angle), tangent


@jax.custom_jvp
def relu_covariance_and_tangent(k: Array, n: Array, s: Array) -> tuple[Array, Array]:
    """`relu_covariance`, and the tangent kernel behind a ReLU from n in front of it."""
    angle = _angle(k, s)
    return _covariance(k, s, angle), n * _half_k0(angle)


@relu_covariance_and_tangent.defjvp
def _relu_covariance_and_tangent_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    k, n, s = primals
    dk, dn, ds = tangents
    angle = _angle(k, s)
    half_k0, sine = _half_k0(angle), _sine(angle)
    singular = angle.gap > 0
    inverse_sine = jnp.where(singular, 1 / jnp.where(singular, sine, 1), 0)
    by_k = n * inverse_sine * reciprocal(s) * (0.5 / math.pi)  # dn'/dk; dn'/ds = -c dn'/dk
    covariance_tangent = half_k0 * dk + sine * (0.5 / math.pi) * ds
    tangent_tangent = half_k0 * dn + by_k * dk - by_k * angle.c * ds
    return (
        (_covariance(k, s, angle), n * half_k0),
        (covariance_tangent, tangent_tangent),
    )
