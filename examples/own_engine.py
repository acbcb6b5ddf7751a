# %% [markdown]
# # Your own engine
#
# An engine evaluates blocks of a kernel and pulls cotangents back through them. This one is for
# fully connected networks with erf instead of ReLU (`fc1_erf`, `fc2_erf`, …), which have a closed
# form (Williams, "Computing with infinite networks", 1996). docs/engines.md explains where to put
# the class and which rules apply. The comparison with neural-tangents needs Python 3.10, and Colab
# has a later one.

# %%
# Installs kipper where it is missing, as on Colab: from a wheel beside this notebook
# (upload the one that `make wheel` builds), else from the repository around it.
import importlib.util
import pathlib
import subprocess
import sys

if importlib.util.find_spec("kipper") is None:
    source = str(next(pathlib.Path().glob("kipper-*.whl"), ".."))
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", source], check=True)

# %%
import functools

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import kipper
from kipper.common.architecture import Erf, KernelSpec, architecture_named, is_tangent
from kipper.common.precision import enable_x64
from kipper.workers.engine import PreparedImages, Pullback
from kipper.workers.erf_and_gelu import erf_covariance_and_slope

# %% [markdown]
# ## The kernel, in plain JAX
#
# Let k be the covariance of two images before an erf layer, and v, v′ their variances. After the
# layer the covariance is 2/π asin(2k / √((1 + 2v)(1 + 2v′))), and that of the derivatives is
# 4/π / √((1 + 2v)(1 + 2v′) − 4k²). Neither is singular where images coincide. The difference under
# the root cancels for images that are large and close, so kipper's function takes it as
# 1 + 2(v + v′) + 4(vv′ − k²).


# %%
def erf_kernel(hidden, w2, b2, tangent, x1, x2):
    """K (n, m) of images (n, h, w, c) and (m, h, w, c) after `hidden` layers with erf."""
    x1, x2 = (x.reshape(len(x), -1) / x[0].size ** 0.5 for x in (x1, x2))
    covariance = w2 * x1 @ x2.T + b2
    v1, v2 = (w2 * jnp.sum(x**2, axis=1) + b2 for x in (x1, x2))
    result = covariance
    for _ in range(hidden):
        total, product = v1[:, None] + v2, v1[:, None] * v2
        covariance, slopes = erf_covariance_and_slope(covariance, total, product)
        covariance = w2 * covariance + b2
        result = w2 * slopes * result + covariance if tangent else covariance
        v1, v2 = (w2 * erf_covariance_and_slope(v, 2 * v, v * v)[0] + b2 for v in (v1, v2))
    return result


# %% [markdown]
# ## The engine
#
# The engine computes no features of single images and keeps no residuals for the backward phase:
# `jax.vjp` computes the kernel again. All arrays have the kernel's dtype. Each call enters 64-bit
# mode by context, never globally.


# %%
class ErfEngine:
    """Evaluates fully connected networks with erf; an `Engine` of `kipper.workers.engine`."""

    name = "fc_erf"
    arithmetic = f"XLA {jax.__version__}"  # what bits depend on; equal ones must give equal bits

    def __init__(self, spec: KernelSpec):
        architecture = spec.architecture
        self._x64 = spec.dtype == "float64"
        kernel = functools.partial(
            erf_kernel,
            architecture.layers.count(Erf()),
            architecture.w_std**2,
            architecture.b_std**2,
            is_tangent(spec.kind),
        )

        def kernel_vjp(x1, x2, cotangent):
            values, pullback = jax.vjp(kernel, x1, x2)
            return values, pullback(cotangent)

        self._kernel, self._kernel_vjp = jax.jit(kernel), jax.jit(kernel_vjp)

    def features(self, images: np.ndarray) -> np.ndarray:
        return np.empty((len(images), 0), images.dtype)

    def block(self, x1: PreparedImages, x2: PreparedImages) -> np.ndarray:
        with enable_x64(self._x64):
            return np.asarray(self._kernel(x1.images, x2.images))

    def block_vjp(
        self, x1: PreparedImages, x2: PreparedImages, cotangent: np.ndarray, both: bool
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        with enable_x64(self._x64):
            values, pulled = self._kernel_vjp(x1.images, x2.images, cotangent)
            return np.asarray(values), tuple(map(np.asarray, pulled[: 2 if both else 1]))

    def linearise(
        self, x1: PreparedImages, x2: PreparedImages, both: bool
    ) -> tuple[np.ndarray, Pullback]:
        del x1, x2, both
        raise AssertionError("not called, because residual_bytes is None")

    def residual_bytes(self, x1: PreparedImages, x2: PreparedImages, both: bool) -> int | None:
        del x1, x2, both
        return None


# %% [markdown]
# ## Check it against neural-tangents
#
# neural-tangents has this kernel too, so the test of an engine compares kernel and gradient with
# it. `kipper.kernel` uses neural-tangents here, because no other engine has this kernel.

# %%
digits = load_digits()
images = ((digits.images - digits.images.mean()) / digits.images.std())[..., None]
first, second = images[:40], images[20:80]  # some are in both
spec = KernelSpec(architecture_named("fc2_erf"), "ntk", "float64")
engine = ErfEngine(spec)
x1, x2 = (PreparedImages(x, engine.features(x)) for x in (first, second))
cotangent = np.random.default_rng(0).normal(size=(40, 60))

kernel, (of_first, of_second) = engine.block_vjp(x1, x2, cotangent, both=True)
expected, *gradients = kipper.kernel_vjp(
    first, second, cotangent, architecture="fc2_erf", dtype="float64"
)
errors = {
    "K": np.abs(kernel - expected).max() / np.abs(expected).max(),
    "first images": np.abs(of_first - gradients[0]).max() / np.abs(gradients[0]).max(),
    "second images": np.abs(of_second - gradients[1]).max() / np.abs(gradients[1]).max(),
}
for name, error in errors.items():
    print(f"{name}: differs from neural-tangents by {error:.1e} of the largest entry")
