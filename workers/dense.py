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
from kipper.workers.arc_cosine import acos_and_rest, reciprocal

# Gaps below these are recomputed with rounding of float64 or less: the rounding of the matrix
# product, times 1 / sqrt(gap), would show there (docs/dense_kernel.md).
_NEAR = {"float32": 1e-2, "float64": 1e-5}
# Directions closer than 16 epsilons, |u - u'| = sqrt(2 gap), count as equal: their difference is
# rounding, and the derivative is singular there.
_COINCIDENT_EPSILONS = 16
# Pairs whose differences are formed together; their memory stays below that of a block.
_PAIRS_AT_A_TIME = 256
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


def mean_squares(images: np.ndarray) -> np.ndarray:
    """(n, h, w, c) -> (n,): the mean of x^2, summed in float64 and rounded to the images' dtype.

    The bits do not depend on the rest of the batch.
    """
    rows = images.reshape(len(images), -1)
    sums = np.empty(len(rows))
    # Infinite images mean that a run has diverged, which the regression reports.
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(rows), _ROWS_AT_A_TIME):
            few = slice(start, start + _ROWS_AT_A_TIME)
            sums[few] = _row_products(rows[few].astype(np.float64), rows[few])
        return (sums / rows.shape[1]).astype(images.dtype)


def _row_products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(p, d), (p, d) -> (p,): inner products of rows, in numpy's order of pairwise sums.

    Unlike einsum and BLAS, it does not depend on the processor.
    """
    return (first * second).sum(1)


def input_gaps(x1: Array, q1: Array, x2: Array, q2: Array) -> Array:
    """(n, m): 1 - cos of the angle of each pair of images, with the rounding of a matrix product.

    Images are (n, h, w, c) and (m, h, w, c), with mean squares (n,) and (m,) as from
    `mean_squares`; the gap is 1 where one is 0. All arrays have one floating dtype.
    """
    rows, columns = x1.reshape(len(x1), -1), x2.reshape(len(x2), -1)
    # XLA's product on CPUs is several times slower if both operands are contiguous along the sum
    # and its length is a multiple of 1024. One of them is transposed first, behind a barrier that
    # keeps XLA from undoing that.
    turned = jax.lax.optimization_barrier(rows.T)
    product = jnp.matmul(columns, turned, precision=jax.lax.Precision.HIGHEST)
    gram = jax.lax.optimization_barrier(product).T / rows.shape[1]
    cosine = gram * reciprocal(jnp.sqrt(q1))[:, None] * reciprocal(jnp.sqrt(q2))
    return 1 - jnp.clip(cosine, -1, 1)


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
        gaps[few] = _gaps_by_difference(rows[few[0]], columns[few[1]])
    return gaps


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
    """Standard deviations of single images, stacked over the layers, the read-out last."""

    into: Array  # before the bias is added
    sigma: Array  # after the bias is added
    inverse: Array  # 1 / sigma, or 0 for 0

    def layer(self, index: int) -> "_Deviations":
        return _Deviations(*(array[index] for array in self))

    def hidden(self) -> "_Deviations":
        return _Deviations(*(array[:-1] for array in self))


def _deviations(network: DenseNetwork, q: Array) -> _Deviations:
    """The deviations at mean squares `q`; a ReLU halves variances."""
    variances = [network.w2 * q + network.b2]
    for _ in range(network.hidden):
        variances.append(network.w2 / 2 * variances[-1] + network.b2)
    into = jnp.stack([network.w2 * q, *(network.w2 / 2 * v for v in variances[:-1])])
    sigma = jnp.sqrt(jnp.stack(variances))
    return _Deviations(jnp.sqrt(into), sigma, jnp.where(sigma > 0, reciprocal(sigma), 0))


class _Layer(NamedTuple):
    """The kernels of a hidden layer, before and behind its ReLU; all (n, m)."""

    gap: Array  # 1 - c, 0 where the images coincide
    half_k0: Array  # k0(c) / 2
    tangent: Array  # the tangent kernel


def _gap(network: DenseNetwork, deficit: Array, one: _Deviations, two: _Deviations) -> Array:
    """1 - c behind a Dense layer, from the `deficit` in front of it; the bias makes it smaller."""
    p = one.into[:, None] * two.into
    s = one.sigma[:, None] * two.sigma
    apart = one.into[:, None] - two.into
    between = network.b2 * apart * apart * reciprocal(s + p + network.b2)
    gap = (p * deficit + between) * (one.inverse[:, None] * two.inverse)
    return jnp.where(s > 0, gap, 1)


def _forward(
    network: DenseNetwork, gaps: Array, first: _Deviations, second: _Deviations
) -> tuple[_Layer, Array, Array]:
    """The hidden layers, stacked; the covariance and the tangent kernel of the read-out."""

    def through_layer(
        carry: tuple[Array, Array], deviations: tuple[_Deviations, _Deviations]
    ) -> tuple[tuple[Array, Array], _Layer]:
        deficit, carried = carry
        one, two = deviations
        gap = _gap(network, deficit, one, two)
        smallest = 0.5 * (_COINCIDENT_EPSILONS * float(jnp.finfo(gap.dtype).eps)) ** 2
        gap = jnp.where(gap <= smallest, 0, jnp.minimum(gap, 2))
        acos, rest = acos_and_rest(jnp.minimum(gap, 2 - gap))
        turn = acos * (0.5 / math.pi)
        half_k0 = jnp.where(gap <= 1, 0.5 - turn, turn)
        tangent = carried + one.sigma[:, None] * two.sigma * (1 - gap)
        deficit = jnp.minimum(gap, 1) - rest * (1 / math.pi)  # 1 - k1(c)
        return (deficit, network.w2 * tangent * half_k0), _Layer(gap, half_k0, tangent)

    # A loop, because XLA would merge layers and recompute each for every use in the next.
    start = gaps, jnp.zeros_like(gaps)
    (deficit, carried), layers = jax.lax.scan(
        through_layer, start, (first.hidden(), second.hidden())
    )
    one, two = first.layer(-1), second.layer(-1)
    covariance = one.sigma[:, None] * two.sigma * (1 - _gap(network, deficit, one, two))
    return layers, covariance, carried + covariance


def kernel(network: DenseNetwork, kind: str, gaps: Array, q1: Array, q2: Array) -> Array:
    """The kernel `ntk` or `nngp` of every pair (n, m), from gaps (n, m) and mean squares."""
    first, second = _deviations(network, q1), _deviations(network, q2)
    _, covariance, tangent = _forward(network, gaps, first, second)
    return tangent if is_tangent(kind) else covariance


def kernel_vjp(
    network: DenseNetwork, kind: str, gaps: Array, q1: Array, q2: Array, cotangent: Array
) -> tuple[Array, Array, Array]:
    """Pulls a cotangent (n, m) of `kernel` back to the inner products.

    Returns:
        Cotangents of <x, x'> / d (n, m), and of <x, x> / d for the first (n,) and second images
        (m,).
    """
    w2 = network.w2
    first, second = _deviations(network, q1), _deviations(network, q2)
    layers, _, _ = _forward(network, gaps, first, second)

    def back_through_layer(
        carry: tuple[Array, Array], layer: tuple[_Layer, _Deviations, _Deviations]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        of_tangent, of_covariance = carry
        (gap, half_k0, tangent), one, two = layer
        sine = jnp.sqrt(gap * (2 - gap))
        slope = jnp.where(sine > 0, 1 / jnp.where(sine > 0, sine, 1), 0)
        slope = slope * (w2 / (2 * math.pi)) * (one.inverse[:, None] * two.inverse)
        by_k = of_tangent * tangent * slope
        by_s = of_covariance * sine * (w2 / (2 * math.pi)) - (1 - gap) * by_k
        of_v1 = 0.5 * one.inverse * jnp.sum(by_s * two.sigma, 1)
        of_v2 = 0.5 * two.inverse * jnp.sum(by_s * one.sigma[:, None], 0)
        of_tangent = w2 * half_k0 * of_tangent
        return (of_tangent, w2 * half_k0 * of_covariance + by_k + of_tangent), (of_v1, of_v2)

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
