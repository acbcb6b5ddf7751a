"""Fully connected kernels in closed form: one matrix product, then arithmetic on each pair.

A pair is represented by the gap 1 - c of its correlation, never by c, so that nothing cancels for
images that are close to each other. Derivation: docs/dense_kernel.md.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from kipper.common.architecture import Architecture, is_tangent
from kipper.common.linalg import matmul
from kipper.workers.arc_cosine import acos_and_rest

# Gaps below these are recomputed with rounding of float64 or less: the rounding of the matrix
# product, times 1 / sqrt(gap), would show there (docs/dense_kernel.md).
_NEAR = {"float32": 1e-2, "float64": 1e-5}
# In float32, pairs with smaller gaps are evaluated in float64 from the start: their gradient is a
# small difference of large numbers, unless they are equal. So are pairs that are nearly opposite,
# by the second bound, whose 2 - gap has the rounding of the product.
_CLOSE, _NEARLY_OPPOSITE = 1e-4, 2 - 1e-2
# Gaps of equal images, as `_gaps_by_product` rounds them.
_EQUAL = 4e-15
# Directions closer than 16 epsilons, |u - u'| = sqrt(2 gap), count as equal: their difference is
# rounding, and the derivative is singular there.
_COINCIDENT_EPSILONS = 16
# Pairs whose differences are formed together; their memory stays below that of a block.
_PAIRS_AT_A_TIME = 256
HEADROOM = 3  # powers of two, see `product_scales`
# Squares of numbers between these neither overflow nor lose digits in float64.
_ROOTS_OF_SQUARES = (1e-140, 1e140)
# Images whose squares stay in the processor's caches.
_ROWS_AT_A_TIME = 32


@dataclasses.dataclass(frozen=True)
class DenseNetwork:
    """A fully connected ReLU network.

    Attributes:
        hidden: hidden layers, at least 1.
        w2: variance of the weights, before the 1/fan-in factor.
        b2: variance of the biases.
    """

    hidden: int
    w2: float
    b2: float


def dense_network(architecture: Architecture) -> DenseNetwork | None:
    """The network of an architecture; None if it is no fully connected ReLU network."""
    if not (hidden := architecture.hidden_layers):
        return None
    return DenseNetwork(hidden, architecture.w_std**2, architecture.b_std**2)


def root_mean_squares(images: np.ndarray) -> np.ndarray:
    """(n, h, w, c) -> (n,): the root of the mean of x^2, in the images' dtype, at any scale.

    Summed in float64. The bits do not depend on the rest of the batch.
    """
    rows = images.reshape(len(images), -1)
    roots = np.empty(len(rows))
    # Infinite images mean that a run has diverged, which the regression reports.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(rows), _ROWS_AT_A_TIME):
            few = slice(start, start + _ROWS_AT_A_TIME)
            roots[few] = np.sqrt(_row_products(rows[few].astype(np.float64), rows[few]))
        ordinary = (roots > _ROOTS_OF_SQUARES[0]) & (roots < _ROOTS_OF_SQUARES[1])
        for i in np.flatnonzero(~ordinary):
            row = rows[i].astype(np.float64)
            largest = np.abs(row).max()
            if largest > 0:
                roots[i] = largest * np.sqrt(np.square(row / largest).sum())
        return (roots / math.sqrt(rows.shape[1])).astype(images.dtype)


def _row_products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(p, d), (p, d) -> (p,): inner products of rows, in numpy's order of pairwise sums.

    Unlike those of einsum and BLAS, the bits do not depend on the processor.
    """
    return (first * second).sum(1)


def input_gaps(x1: Array, rms1: Array, x2: Array, rms2: Array) -> Array:
    """(n, m): 1 - cos of the angle of each pair of images, with the rounding of a matrix product.

    Images are (n, h, w, c) and (m, h, w, c), with (n,) and (m,) as from `root_mean_squares`; the
    gap is 1 where one is 0. All arrays have one floating dtype. Images of any finite size are
    right, because those of batch 1 are first multiplied by powers of two.
    """
    rows, columns = x1.reshape(len(x1), -1), x2.reshape(len(x2), -1)
    fraction, limit, powers = product_scales(rows.shape[1], x1.dtype)
    exponents = jnp.clip(jnp.frexp(rms1)[1] + powers, -limit, limit)
    scales = jnp.ldexp(jnp.ones_like(rms1), -exponents)
    # XLA's product on CPUs is several times slower if both operands are contiguous along the sum
    # and its length is a multiple of 1024. One of them is transposed first, behind a barrier that
    # keeps XLA from undoing that.
    turned = jax.lax.optimization_barrier((rows * scales[:, None]).T)
    product = jnp.matmul(columns, turned, precision=jax.lax.Precision.HIGHEST)
    norms1 = jnp.ldexp(fraction * rms1, powers - HEADROOM - exponents)
    # One factor, so that the gap of x and x' is that of x' and x to the bit.
    factor = _inverse(norms1)[:, None] * _inverse(fraction * rms2)
    cosine = jax.lax.optimization_barrier(product).T * factor
    return 1 - jnp.clip(cosine, -1, 1)


def product_scales(length: int, dtype: np.dtype) -> tuple[float, int, int]:
    """Scales that keep the products of rows of that length within the range of `dtype`.

    With sqrt(length) = f 2^t: f; the largest power of two of a scale; and the power by which a row
    with a root mean square of 1 is made smaller, 2 t + 3. Sums of its products with another row are
    then smaller than the other's root mean square, and a factor 1 / rms' stays a normal number.
    """
    fraction, exponent = math.frexp(math.sqrt(length))
    return fraction, int(np.finfo(dtype).maxexp) - 28, 2 * exponent + HEADROOM


def _inverse(x: Array) -> Array:
    """1 / x, or 0 for 0."""
    return jnp.where(x == 0, 0, 1 / jnp.where(x == 0, 1, x))


def refined_gaps(gaps: np.ndarray, x1: np.ndarray, x2: np.ndarray, threads: int = 1) -> np.ndarray:
    """`gaps` (n, m) from `input_gaps`, with those of nearly parallel images recomputed on the host.

    Returns `gaps` itself if there are none, and never modifies it.
    """
    near = gaps < _NEAR[gaps.dtype.name]
    if not near.any():
        return gaps
    rows, columns = x1.reshape(len(x1), -1), x2.reshape(len(x2), -1)
    gaps = gaps.copy()
    if gaps.dtype == np.float32:
        near_rows, near_columns = near.any(1), near.any(0)
        block = np.ix_(near_rows, near_columns)
        by_product = _gaps_by_product(rows[near_rows], columns[near_columns], threads)
        gaps[block] = np.where(near[block], by_product, gaps[block])
        return gaps
    i, j = np.nonzero(near)
    for start in range(0, len(i), _PAIRS_AT_A_TIME):
        few = i[start : start + _PAIRS_AT_A_TIME], j[start : start + _PAIRS_AT_A_TIME]
        first, second = _of_ordinary_size(rows[few[0]]), _of_ordinary_size(columns[few[1]])
        gaps[few] = _gaps_by_difference(first, second)
    return gaps


class ClosePairs(NamedTuple):
    """Some pairs of a block (n, m).

    Attributes:
        rows: indices of the images of batch 1 that are in one, (r,).
        columns: the same of batch 2, (c,).
        pairs: which pairs of these are meant, (r, c).
    """

    rows: np.ndarray
    columns: np.ndarray
    pairs: np.ndarray

    def block(self) -> tuple[np.ndarray, ...]:
        """The index of the submatrix."""
        return np.ix_(self.rows, self.columns)


def close_pairs(
    network: DenseNetwork,
    gaps: np.ndarray,
    rms1: np.ndarray,
    rms2: np.ndarray,
    crowded1: np.ndarray | bool = False,
    crowded2: np.ndarray | bool = False,
) -> ClosePairs | None:
    """The pairs for which float32 does not suffice, from `refined_gaps`; None if there are none.

    Among them are images with themselves, if one is close to another, in this block or (`crowded`,
    see `PreparedImages`) elsewhere: cosines are measured by their kernel.
    """
    faintest = math.sqrt(_CLOSE * network.b2 / network.w2)
    faint1, faint2 = rms1 < faintest, rms2 < faintest
    any_faint = faint1.any() and faint2.any()
    if gaps.min(initial=1) >= _CLOSE and gaps.max(initial=1) <= _NEARLY_OPPOSITE and not any_faint:
        return None
    close = (gaps < _CLOSE) | (gaps > _NEARLY_OPPOSITE)
    if any_faint:  # the bias brings them close
        close |= faint1[:, None] & faint2
    equal = (gaps <= _EQUAL) & (rms1[:, None] == rms2)
    close &= ~equal
    crowded = np.logical_or.outer(close.any(1) | crowded1, close.any(0) | crowded2)
    close |= equal & crowded
    rows, columns = np.flatnonzero(close.any(1)), np.flatnonzero(close.any(0))
    return ClosePairs(rows, columns, close[np.ix_(rows, columns)]) if rows.size else None


def _of_ordinary_size(rows: np.ndarray) -> np.ndarray:
    """(p, d) in float64, each row multiplied by a power of two so that its squares are ordinary."""
    return np.ldexp(rows, -np.frexp(np.abs(rows).max(1))[1][:, None])


def _gaps_by_product(rows: np.ndarray, columns: np.ndarray, threads: int) -> np.ndarray:
    """(n, d), (m, d) -> (n, m) in float64, to about 1e-15; for images other than 0."""
    first, second = rows.astype(np.float64), columns.astype(np.float64)
    first /= np.sqrt(_row_products(first, first))[:, None]
    second /= np.sqrt(_row_products(second, second))[:, None]
    return np.maximum(1 - matmul(first, second.T, threads=threads), 0)


def _gaps_by_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(p, d), (p, d) in float64 -> (p,), accurate even in its square root; for images other than 0.

    x' minus its projection on x has length sin |x'|, so that nothing cancels except within a pixel.
    """
    across = _row_products(first, second)
    residual = second - (across / _row_products(first, first))[:, None] * first
    sine2 = _row_products(residual, residual) / _row_products(second, second)
    return sine2 / (1 + np.sqrt(1 - sine2))


class _Deviations(NamedTuple):
    """Standard deviations of single images, stacked over the layers, the read-out last.

    The shares are cosine and sine of one angle, which makes layers free of units. The shares of an
    image of deviation 0 are 0 and 1.
    """

    sigma: Array
    inverse: Array  # 1 / sigma, or 0 for 0
    weights: Array  # the deviation before the bias is added, over sigma
    bias: Array  # the deviation of the bias, over sigma

    def layer(self, index: int) -> "_Deviations":
        return _Deviations(*(array[index] for array in self))

    def hidden(self) -> "_Deviations":
        return _Deviations(*(array[:-1] for array in self))


def _deviations(network: DenseNetwork, rms: Array) -> _Deviations:
    """The deviations at root mean squares `rms`; a ReLU halves variances."""
    bias, into = math.sqrt(network.b2), math.sqrt(network.w2) * rms
    layers = []
    for _ in range(network.hidden + 1):
        largest = jnp.maximum(into, bias)
        unit = jnp.where(largest == 0, 1, largest)
        sigma = largest * jnp.sqrt((into / unit) ** 2 + (bias / unit) ** 2)
        null, divisor = sigma == 0, jnp.where(sigma == 0, 1, sigma)
        inverse = jnp.where(null, 0, 1 / divisor)
        layers.append(
            _Deviations(sigma, inverse, into / divisor, jnp.where(null, 1, bias / divisor))
        )
        into = math.sqrt(network.w2 / 2) * sigma
    return _Deviations(*map(jnp.stack, zip(*layers, strict=True)))


class _Layer(NamedTuple):
    """The kernels of a hidden layer, before and behind its ReLU; all (n, m)."""

    gap: Array  # 1 - c, 0 where the images coincide
    k0: Array
    tangent: Array  # the tangent kernel over the product of the standard deviations


def _gap(deficit: Array, one: _Deviations, two: _Deviations) -> Array:
    """1 - c behind a Dense layer, from the `deficit` in front of it; the bias makes it smaller."""
    apart = one.weights[:, None] - two.weights
    bias_apart = one.bias[:, None] - two.bias
    return _by_weights(one, two) * deficit + 0.5 * (apart * apart + bias_apart * bias_apart)


def _by_weights(one: _Deviations, two: _Deviations) -> Array:
    """The share of the product of deviations that comes through the weights."""
    return one.weights[:, None] * two.weights


def _forward(gaps: Array, first: _Deviations, second: _Deviations) -> tuple[_Layer, Array, Array]:
    """The hidden layers, stacked; the covariance and the tangent kernel of the read-out."""

    def through_layer(
        carry: tuple[Array, Array], deviations: tuple[_Deviations, _Deviations]
    ) -> tuple[tuple[Array, Array], _Layer]:
        deficit, carried = carry
        one, two = deviations
        gap = _gap(deficit, one, two)
        smallest = 0.5 * (_COINCIDENT_EPSILONS * float(jnp.finfo(gap.dtype).eps)) ** 2
        gap = jnp.where(gap <= smallest, 0, jnp.minimum(gap, 2))
        acos, rest = acos_and_rest(jnp.minimum(gap, 2 - gap))
        turn = acos * (1 / math.pi)
        k0 = jnp.where(gap <= 1, 1 - turn, turn)
        tangent = carried * _by_weights(one, two) + (1 - gap)
        deficit = jnp.minimum(gap, 1) - rest * (1 / math.pi)  # 1 - k1(c)
        return (deficit, k0 * tangent), _Layer(gap, k0, tangent)

    # A loop, because XLA would merge layers and recompute each for every use in the next.
    start = gaps, jnp.zeros_like(gaps)
    (deficit, carried), layers = jax.lax.scan(
        through_layer, start, (first.hidden(), second.hidden())
    )
    one, two = first.layer(-1), second.layer(-1)
    covariance, unit = 1 - _gap(deficit, one, two), one.sigma[:, None] * two.sigma
    tangent = carried * _by_weights(one, two) + covariance
    return layers, unit * covariance, unit * tangent


def kernel(network: DenseNetwork, kind: str, gaps: Array, rms1: Array, rms2: Array) -> Array:
    """The kernel `ntk` or `nngp` of every pair (n, m), from gaps (n, m) and root mean squares.

    If it overflows it is infinite or NaN.
    """
    first, second = _deviations(network, rms1), _deviations(network, rms2)
    _, covariance, tangent = _forward(gaps, first, second)
    return tangent if is_tangent(kind) else covariance


def kernel_vjp(
    network: DenseNetwork, kind: str, gaps: Array, rms1: Array, rms2: Array, cotangent: Array
) -> tuple[Array, Array, Array]:
    """Pulls a cotangent (n, m) of `kernel` back to the inner products.

    Returns:
        Cotangents of <x, x'> / d (n, m), and of <x, x> / d for the first (n,) and second images
        (m,).
    """
    w2 = network.w2
    first, second = _deviations(network, rms1), _deviations(network, rms2)
    layers, _, _ = _forward(gaps, first, second)

    def back_through_layer(
        carry: tuple[Array, Array], layer: tuple[_Layer, _Deviations, _Deviations]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        of_tangent, of_covariance = carry
        (gap, k0, tangent), one, two = layer
        sine = jnp.sqrt(gap * (2 - gap))
        slope = jnp.where(sine > 0, (w2 / (2 * math.pi)) / jnp.where(sine > 0, sine, 1), 0)
        by_k = of_tangent * tangent * slope
        by_s = of_covariance * sine * (w2 / (2 * math.pi)) - (1 - gap) * by_k
        of_v1 = 0.5 * one.inverse * jnp.sum(by_s * two.sigma, 1)
        of_v2 = 0.5 * two.inverse * jnp.sum(by_s * one.sigma[:, None], 0)
        of_tangent = 0.5 * w2 * k0 * of_tangent
        return (of_tangent, 0.5 * w2 * k0 * of_covariance + by_k + of_tangent), (of_v1, of_v2)

    # The covariance's cotangent includes that through the tangent kernel, which contains it.
    start = cotangent if is_tangent(kind) else jnp.zeros_like(cotangent), cotangent
    (_, of_covariance), of_variances = jax.lax.scan(
        back_through_layer, start, (layers, first.hidden(), second.hidden()), reverse=True
    )
    by_q = w2 * (w2 / 2) ** np.arange(network.hidden)  # derivatives of the variances
    of_q1, of_q2 = (jnp.asarray(by_q, v.dtype) @ v for v in of_variances)
    return w2 * of_covariance, of_q1, of_q2


def images_vjp(of_gram: Array, of_q1: Array, x1: Array, x2: Array) -> Array:
    """The cotangent of x1 (n, h, w, c) from those of <x, x'> / d (n, m) and <x, x> / d (n,)."""
    rows, columns = x1.reshape(len(x1), -1), x2.reshape(len(x2), -1)
    across = jnp.matmul(of_gram, columns, precision=jax.lax.Precision.HIGHEST)
    return ((across + 2 * of_q1[:, None] * rows) / rows.shape[1]).reshape(x1.shape)
