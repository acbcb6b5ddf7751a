"""Every engine against stored kernels of neural-tangents, which need not be installed for it."""

import contextlib

import pytest
from oracle import relative_error
from stored_kernels import CASES, stored

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.engines import ENGINES
from kipper.common.errors import UserError
from kipper.workers.choice import check_engine, make_engine
from kipper.workers.engine import PreparedImages


def _engines(name, kind):
    """Those that can evaluate the kernel here."""
    for engine in ENGINES:
        with contextlib.suppress(UserError):
            check_engine(engine, KernelSpec(architecture_named(name), kind, "float64"))
            yield engine


def _cases():
    """Every case with every engine; what mostly takes compilation is left to longer suites.

    The library repeats its own stored results, and the native engine computes what plain JAX does.
    """
    for name, kind, shape in CASES:
        pooled = architecture_named(name).couples_pixels
        for engine in set(_engines(name, kind)) - {"auto"}:
            marks = []
            if (pooled and engine == "neural_tangents") or (name, engine) in _LONG:
                marks = [pytest.mark.slow]
            elif pooled and engine == "banded_xla":
                marks = [pytest.mark.thorough]
            yield pytest.param(name, kind, shape, engine, marks=marks)


_LONG = {("convnet4", "banded_xla"), ("convnet2_gap", "banded_xla")}


@pytest.mark.parametrize(("name", "kind", "shape", "engine"), sorted(_cases(), key=str))
def test_kernel_and_both_vjps_are_those_stored(name, kind, shape, engine):
    made = make_engine(engine, KernelSpec(architecture_named(name), kind, "float64"), threads=2)
    x1, x2, cotangent, *expected = stored(name, kind)
    assert x1.shape[1:] == shape
    first, second = (PreparedImages(x, made.features(x)) for x in (x1, x2))
    kernel, pulled = made.block_vjp(first, second, cotangent, both=True)
    for got, want in zip((kernel, *pulled), expected, strict=True):
        assert relative_error(got, want) < 1e-12


def test_every_case_has_an_engine_that_needs_no_library():
    for name, kind, _ in CASES:
        assert {"dense", "banded_xla"} & set(_engines(name, kind)), name
