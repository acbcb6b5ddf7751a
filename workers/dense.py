"""Fully connected kernels in closed form: one matrix product, then arithmetic on each pair alone.

Pairs are followed by the gap 1 - c of their correlation, never by c, so that nothing cancels where
images are close to each other. Derivation: docs/dense_kernel.md.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from kipper.common.architecture import Architecture, is_tangent
from kipper.workers.arc_cosine import acos_and_rest, reciprocal

# Gaps from a matrix product below these are computed again, with rounding of float64 or less.
# There the product's own rounding, times 1 / sqrt(gap), would show (docs/dense_kernel.md).
_NEAR = {"float32": 1e-2, "float64": 1e-5}
# Directions closer than 16 epsilons, |u - u'| = sqrt(2 gap), are taken for equal: the derivative
# is singular there, and differences of such images are rounding.
_COINCIDENT_EPSILONS = 16
# Pairs whose difference is formed at a time, so that memory stays below a block's own.
_PAIRS_AT_A_TIME = 256


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
    """The network of that architecture; None if it is not fully connected."""
    if not (hidden := architecture.hidden_layers):
        return None
    return DenseNetwork(hidden, architecture.w_std**2, architecture.b_std**2)


def mean_squares(images: np.ndarray) -> np.ndarray:
    """(n, h, w, c) -> (n,): the mean of x^2, summed in float64 and rounded to the images' dtype.

    Equal images have equal bits, whatever else is in the batch.
    """
    rows = images.reshape(len(images), -1)
    sums = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    # Infinite images are those of a run that has diverged; the regression says so in a sentence.
    with np.errstate(over="ignore", invalid="ignore"):
        return (sums / rows.shape[1]).astype(images.dtype)


def input_gaps(x1: Array, q1: Array, x2: Array, q2: Array) -> Array:
    """1 - cos of the angle of each pair of images, as a matrix product rounds it.

    Args:
        x1: (n, h, w, c).
        q1: (n,), as from `mean_squares`; 0 makes the gap 1.
        x2: (m, h, w, c).
        q2: (m,).

    Returns:
        (n, m), all of one floating dtype.
    """
    rows, columns = x1.reshape(len(x1), -1), x2.reshape(len(x2), -1)
    # XLA's product for CPUs is several times slower where both operands run along the sum and
    # their length is a multiple of 1024: one of them is transposed for it, behind a barrier that
    # keeps XLA from undoing that.
    turned = jax.lax.optimization_barrier(rows.T)
    product = jnp.matmul(columns, turned, precision=jax.lax.Precision.HIGHEST)
    gram = jax.lax.optimization_barrier(product).T / rows.shape[1]
    cosine = gram * reciprocal(jnp.sqrt(q1))[:, None] * reciprocal(jnp.sqrt(q2))
    return 1 - jnp.clip(cosine, -1, 1)


def refined_gaps(gaps: np.ndarray, x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    """`input_gaps` with those of nearly parallel images computed again, on the host.

    Args:
        gaps: (n, m), not changed.
        x1: (n, h, w, c).
        x2: (m, h, w, c).

    Returns:
        (n, m) of the same dtype; `gaps` itself if no pair is near.
    """
    near = gaps < _NEAR[gaps.dtype.name]
    if not near.any():
        return gaps
    rows, columns = x1.reshape(len(x1), -1), x2.reshape(len(x2), -1)
    gaps = gaps.copy()
    if gaps.dtype == np.float32:
        i, j = near.any(1), near.any(0)
        block = np.ix_(i, j)
        gaps[block] = np.where(near[block], _gaps_by_product(rows[i], columns[j]), gaps[block])
        return gaps
    i, j = np.nonzero(near)
    for start in range(0, len(i), _PAIRS_AT_A_TIME):
        few = i[start : start + _PAIRS_AT_A_TIME], j[start : start + _PAIRS_AT_A_TIME]
        gaps[few] = _gaps_by_difference(rows[few[0]], columns[few[1]])
    return gaps


def _gaps_by_product(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(n, d), (m, d) -> (n, m), of images other than 0, in float64: good to some 1e-15."""
    first, second = rows.astype(np.float64), columns.astype(np.float64)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    return np.maximum(1 - first @ second.T, 0)


def _gaps_by_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(p, d), (p, d) in float64 -> (p,): of each pair, other than 0; its square root is good.

    By x' less its projection on x, which is sin |x'| long: nothing cancels but within a pixel.
    """
    across = np.einsum("pd,pd->p", first, second)
    residual = second - (across / np.einsum("pd,pd->p", first, first))[:, None] * first
    sine2 = np.einsum("pd,pd->p", residual, residual) / np.einsum("pd,pd->p", second, second)
    return sine2 / (1 + np.sqrt(1 - sine2))


class _Deviations(NamedTuple):
    """Of each image alone; stacked over the layers, the read-out last."""

    into: Array  # standard deviations before the bias is added
    sigma: Array  # and after
    inverse: Array  # 1 / sigma, or 0 for 0

    def layer(self, index: int) -> "_Deviations":
        return _Deviations(*(array[index] for array in self))

    def hidden(self) -> "_Deviations":
        return _Deviations(*(array[:-1] for array in self))


def _deviations(network: DenseNetwork, q: Array) -> _Deviations:
    """Behind a ReLU a variance is halved."""
    variances = [network.w2 * q + network.b2]
    for _ in range(network.hidden):
        variances.append(network.w2 / 2 * variances[-1] + network.b2)
    into = jnp.stack([network.w2 * q, *(network.w2 / 2 * v for v in variances[:-1])])
    sigma = jnp.sqrt(jnp.stack(variances))
    return _Deviations(jnp.sqrt(into), sigma, jnp.where(sigma > 0, reciprocal(sigma), 0))


class _Layer(NamedTuple):
    """Pre-activations of a hidden layer and what its ReLU makes of them; all (n, m)."""

    gap: Array  # 1 - c, 0 where the images coincide
    half_k0: Array  # k0(c) / 2
    tangent: Array  # the tangent kernel


def _gap(network: DenseNetwork, deficit: Array, one: _Deviations, two: _Deviations) -> Array:
    """1 - c behind a Dense layer, of 1 - c in front of it; the bias brings directions together."""
    p = one.into[:, None] * two.into
    s = one.sigma[:, None] * two.sigma
    apart = one.into[:, None] - two.into
    between = network.b2 * apart * apart * reciprocal(s + p + network.b2)
    gap = (p * deficit + between) * (one.inverse[:, None] * two.inverse)
    return jnp.where(s > 0, gap, 1)


def _forward(
    network: DenseNetwork, gaps: Array, first: _Deviations, second: _Deviations
) -> tuple[_Layer, Array, Array]:
    """The hidden layers, stacked, and covariance and tangent kernel of the read-out."""

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

    # A loop, since XLA would merge layers and compute each again for every use of it in the next.
    start = gaps, jnp.zeros_like(gaps)
    (deficit, carried), layers = jax.lax.scan(
        through_layer, start, (first.hidden(), second.hidden())
    )
    one, two = first.layer(-1), second.layer(-1)
    covariance = one.sigma[:, None] * two.sigma * (1 - _gap(network, deficit, one, two))
    return layers, covariance, carried + covariance


def kernel(network: DenseNetwork, kind: str, gaps: Array, q1: Array, q2: Array) -> Array:
    """The kernel of every pair.

    Args:
        network: of which it is evaluated.
        kind: `ntk` or `nngp`.
        gaps: (n, m), as from `input_gaps`.
        q1: (n,), as from `mean_squares`.
        q2: (m,).

    Returns:
        (n, m).
    """
    first, second = _deviations(network, q1), _deviations(network, q2)
    _, covariance, tangent = _forward(network, gaps, first, second)
    return tangent if is_tangent(kind) else covariance


def kernel_vjp(
    network: DenseNetwork, kind: str, gaps: Array, q1: Array, q2: Array, cotangent: Array
) -> tuple[Array, Array, Array]:
    """Pulls a cotangent (n, m) of `kernel` back to the inner products.

    Returns:
        Cotangents of <x, x'> / d (n, m), and of its values <x, x> / d of the first (n,) and of the
        second images (m,) with themselves.
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

    # Of the covariance, what comes through the tangent kernel, which contains it, included.
    start = cotangent if is_tangent(kind) else jnp.zeros_like(cotangent), cotangent
    (_, of_covariance), of_variances = jax.lax.scan(
        back_through_layer, start, (layers, first.hidden(), second.hidden()), reverse=True
    )
    by_q = w2 * (w2 / 2) ** np.arange(network.hidden)  # derivatives of the variances
    of_q1, of_q2 = (jnp.asarray(by_q, v.dtype) @ v for v in of_variances)
    return w2 * of_covariance, of_q1, of_q2


def images_vjp(of_gram: Array, of_q1: Array, x1: Array, x2: Array) -> Array:
    """From the cotangents of <x, x'> / d (n, m) and <x, x> / d (n,) to that of x1 (n, h, w, c)."""
    rows, columns = x1.reshape(len(x1), -1), x2.reshape(len(x2), -1)
    across = jnp.matmul(of_gram, columns, precision=jax.lax.Precision.HIGHEST)
    return ((across + 2 * of_q1[:, None] * rows) / rows.shape[1]).reshape(x1.shape)
