"""The only module that imports neural-tangents; import `nt` and `stax` from here.

It replaces three names, so that neural-tangents 0.6.4 runs on JAX 0.5.3.
"""

import functools
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.linear_util
import jax.numpy as jnp

from kipper.common.architecture import (
    Architecture,
    AvgPool,
    Conv,
    Dense,
    Erf,
    Flatten,
    Gelu,
    GlobalAvgPool,
    KernelSpec,
    Layer,
    LeakyRelu,
    Relu,
)
from kipper.workers.erf_and_gelu import erf_covariance_and_slope, gelu_covariance_and_slope
from kipper.workers.own_network import made_kernel


def _replace_moved_names() -> None:
    """Sets names that JAX moved after neural-tangents' last release."""
    # neural-tangents imports this module only for a TensorFlow front end. Without an empty module
    # in its place every worker would import TensorFlow: eleven seconds and 250 MB.
    sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")
    setattr(jax, "linear_util", jax.extend.linear_util)  # noqa: B010 (mypy knows no such name)
    sys.modules["jax.linear_util"] = jax.extend.linear_util
    setattr(jax.random, "KeyArray", jax.Array)  # noqa: B010


_replace_moved_names()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import neural_tangents as nt
    from neural_tangents import stax
    from neural_tangents._src.stax.requirements import get_diagonal_outer_prods

__all__ = ["erf", "gelu", "kernel_function", "nt", "relu", "stax"]

_Layer = tuple[Callable[..., Any], Callable[..., Any], Callable[..., nt.Kernel]]  # as in stax


def _keep_coincident(kernel: nt.Kernel) -> nt.Kernel:
    """Moves covariances within rounding of sqrt(var1 var2) just above it.

    The arc-cosine has a vertical tangent at correlation 1. A rounding error of 1e-16 in the
    correlation becomes 1e-8 in the tangent kernel and its gradient there, and a different 1e-8 for
    each block shape. Just above 1, neural-tangents takes the angle and the singular derivative as
    zero, which is their limit.

    Covariances whose square overflows become NaN, because the library would take them for 0 or 1.
    """
    _, product, _ = get_diagonal_outer_prods(
        kernel.cov1, kernel.cov2, kernel.diagonal_batch, kernel.diagonal_spatial, jnp.multiply
    )
    epsilon = 4 * jnp.finfo(kernel.nngp.dtype).eps
    nngp = jnp.where(jnp.isfinite(product), kernel.nngp, jnp.nan)
    coincident = (nngp > 0) & (nngp**2 >= product * (1 - 2 * epsilon))
    return kernel.replace(nngp=jnp.where(coincident, nngp * (1 + 2 * epsilon), nngp))


def relu(slope: float = 0.0) -> _Layer:
    """stax.LeakyRelu(slope), with an exact kernel of each image with itself."""
    init_fn, apply_fn, relu_kernel_fn = stax.LeakyRelu(slope)

    @functools.wraps(relu_kernel_fn)  # stax finds a layer's requirements in its attributes
    def kernel_fn(kernel: nt.Kernel, **options: object) -> nt.Kernel:
        return relu_kernel_fn(_keep_coincident(kernel), **options)

    return init_fn, apply_fn, kernel_fn


def _smooth(
    layer: _Layer, covariance_and_slope: Callable[..., tuple[jax.Array, jax.Array]]
) -> _Layer:
    """`layer` with another kernel, which is a function of k, v1 + v2 and v1 v2 at every pair."""
    init_fn, apply_fn, layer_kernel_fn = layer

    @functools.wraps(layer_kernel_fn)
    def kernel_fn(kernel: nt.Kernel, **options: object) -> nt.Kernel:
        del options
        diagonal = kernel.diagonal_batch, kernel.diagonal_spatial
        totals, products = (
            get_diagonal_outer_prods(kernel.cov1, kernel.cov2, *diagonal, operation)
            for operation in (jnp.add, jnp.multiply)
        )
        covariances = kernel.cov1, kernel.nngp, kernel.cov2
        (cov1, _), (nngp, slope), (cov2, _) = (
            (None, None) if k is None else covariance_and_slope(k, total, product)
            for k, total, product in zip(covariances, totals, products, strict=True)
        )
        ntk = None if kernel.ntk is None else kernel.ntk * slope
        return kernel.replace(cov1=cov1, nngp=nngp, cov2=cov2, ntk=ntk, is_gaussian=False)

    return init_fn, apply_fn, kernel_fn


def erf() -> _Layer:
    """stax.Erf(), with a kernel that is exact at images of any scale."""
    return _smooth(stax.Erf(), erf_covariance_and_slope)


def gelu() -> _Layer:
    """stax.Gelu(), with a kernel that is exact at images of any scale."""
    return _smooth(stax.Gelu(), gelu_covariance_and_slope)


def _stax_layer(layer: Layer, architecture: Architecture) -> _Layer:
    deviations = {"W_std": architecture.w_std, "b_std": architecture.b_std}
    match layer:
        case Conv():
            return stax.Conv(1, (3, 3), padding="SAME", **deviations)
        case Relu():
            return relu()
        case LeakyRelu(slope):
            return relu(slope)
        case Erf():
            return erf()
        case Gelu():
            return gelu()
        case AvgPool():
            return stax.AvgPool((2, 2), strides=(2, 2), padding="VALID")
        case Flatten():
            return stax.Flatten()
        case GlobalAvgPool():
            return stax.GlobalAvgPool()
        case Dense():
            return stax.Dense(1, **deviations)


def kernel_function(spec: KernelSpec) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(n, h, w, c), (m, h, w, c) -> (n, m): the kernel of `spec` by neural-tangents.

    Differs from the library's own only where images coincide (`_keep_coincident`), and for erf and
    gelu of large images; user-defined networks get these rules by using `relu`, `erf` and `gelu`.
    Differentiable and jittable; the dtype is that of the images.

    Raises:
        UserError: a user-defined network cannot be made; its kernel raises this too.
    """
    architecture = spec.architecture
    if architecture.file is not None:
        kernel_fn = made_kernel(architecture.file)
    else:
        layers = [_stax_layer(layer, architecture) for layer in architecture.layers]
        _, _, kernel_fn = stax.serial(*layers)

    def kernel(x1: jax.Array, x2: jax.Array) -> jax.Array:
        return kernel_fn(x1, x2, spec.kind)

    return kernel
