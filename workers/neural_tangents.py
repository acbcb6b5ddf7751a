"""The one door to neural-tangents, with the three stand-ins that let 0.6.4 run on JAX 0.5.3.

Nothing else in kipper imports that library: whoever needs `nt` or `stax` imports them from here.
"""

import functools
import sys
import types
import warnings
from collections.abc import Callable

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
from kipper.workers.own_network import made_kernel


def _install_stand_ins() -> None:
    """Names that JAX moved after neural-tangents' last release, set where it looks for them."""
    # Imported eagerly only for a TensorFlow front end; without this every worker would also
    # import TensorFlow: eleven seconds and 250 MB.
    sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")
    setattr(jax, "linear_util", jax.extend.linear_util)  # noqa: B010 (mypy knows no such name)
    sys.modules["jax.linear_util"] = jax.extend.linear_util
    setattr(jax.random, "KeyArray", jax.Array)  # noqa: B010


_install_stand_ins()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import neural_tangents as nt
    from neural_tangents import stax
    from neural_tangents._src.stax.requirements import get_diagonal_outer_prods

__all__ = ["kernel_function", "nt", "relu", "stax"]


def _keep_coincident(kernel: nt.Kernel) -> nt.Kernel:
    """Covariances within rounding of sqrt(var1 var2) moved just above it.

    The arc-cosine has a vertical tangent at correlation 1. There, a rounding error of 1e-16 in the
    correlation becomes 1e-8 in the tangent kernel and in its gradient, and another 1e-8 for every
    other block shape. Just above 1, neural-tangents takes angle and singular derivative as zero,
    which is their limit. Elsewhere nothing changes.
    """
    _, product, _ = get_diagonal_outer_prods(
        kernel.cov1, kernel.cov2, kernel.diagonal_batch, kernel.diagonal_spatial, jnp.multiply
    )
    epsilon = 4 * jnp.finfo(kernel.nngp.dtype).eps
    coincident = (kernel.nngp > 0) & (kernel.nngp**2 >= product * (1 - 2 * epsilon))
    return kernel.replace(nngp=jnp.where(coincident, kernel.nngp * (1 + 2 * epsilon), kernel.nngp))


def relu(slope: float = 0.0) -> tuple:
    """stax.LeakyRelu(slope) that takes the kernel of an image with itself to be exact."""
    init_fn, apply_fn, relu_kernel_fn = stax.LeakyRelu(slope)

    @functools.wraps(relu_kernel_fn)  # stax finds a layer's requirements in its attributes
    def kernel_fn(kernel: nt.Kernel, **options: object) -> nt.Kernel:
        return relu_kernel_fn(_keep_coincident(kernel), **options)

    return init_fn, apply_fn, kernel_fn


def _stax_layer(layer: Layer, architecture: Architecture) -> tuple:
    deviations = {"W_std": architecture.w_std, "b_std": architecture.b_std}
    match layer:
        case Conv():
            return stax.Conv(1, (3, 3), padding="SAME", **deviations)
        case Relu():
            return relu()
        case LeakyRelu(slope):
            return relu(slope)
        case Erf():  # kernels of these two have no kink where images coincide
            return stax.Erf()
        case Gelu():
            return stax.Gelu()
        case AvgPool():
            return stax.AvgPool((2, 2), strides=(2, 2), padding="VALID")
        case Flatten():
            return stax.Flatten()
        case GlobalAvgPool():
            return stax.GlobalAvgPool()
        case Dense():
            return stax.Dense(1, **deviations)


def kernel_function(spec: KernelSpec) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(n, h, w, c), (m, h, w, c) -> (n, m): the kernel of `spec` as neural-tangents evaluates it.

    Equal to the library's own but for `_keep_coincident`, which a network of the user's own has
    where it uses `relu`.

    Differentiable and jittable; the dtype is that of the images.

    Raises:
        UserError: the user's own network cannot be made; raised by the kernel, it is not one.
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
