"""The plain computation that native code is checked against, itself against the other engines."""

import numpy as np
import pytest
from oracle import reference_kernel, relative_error

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.precision import enable_x64
from kipper.workers.plain_kernel import plain_kernel


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize(
    ("name", "shape"), [("convnet", (9, 11, 2)), ("conv_vec2", (5, 4, 1)), ("myrtle5", (9, 8, 3))]
)
def test_it_is_the_reference_kernel(name, shape, kind):
    rng = np.random.default_rng(0)
    x1, x2 = (rng.normal(size=(count, *shape)) for count in (2, 3))
    x2[1] = x1[0]  # kernels of equal images
    spec = KernelSpec(architecture_named(name), kind, "float64")
    with enable_x64():
        want = np.asarray(reference_kernel(spec)(x1, x2))
    assert relative_error(plain_kernel(spec, x1, x2), want) < 1e-12
