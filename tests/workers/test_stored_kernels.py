"""Every engine against stored kernels of neural-tangents, which need not be installed for it."""

import pytest
from oracle import relative_error
from stored_kernels import CASES, stored

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.engines import ENGINES
from kipper.common.errors import UserError
from kipper.workers.choice import check_engine, make_engine
from kipper.workers.engine import PreparedImages


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "auto"])
@pytest.mark.parametrize(("name", "kind", "shape"), CASES)
def test_kernel_and_both_vjps_are_those_stored(name, kind, shape, engine):
    spec = KernelSpec(architecture_named(name), kind, "float64")
    try:
        check_engine(engine, spec)
    except UserError as error:
        pytest.skip(str(error))
    made = make_engine(engine, spec, threads=2)
    x1, x2, cotangent, *expected = stored(name, kind)
    assert x1.shape[1:] == shape
    first, second = (PreparedImages(x, made.features(x)) for x in (x1, x2))
    kernel, pulled = made.block_vjp(first, second, cotangent, both=True)
    for got, want in zip((kernel, *pulled), expected, strict=True):
        assert relative_error(got, want) < 1e-12


def test_plain_jax_has_every_convolutional_case():
    """None of what is skipped above is skipped for want of an engine."""
    for name, kind, _ in CASES:
        if not name.startswith("fc"):
            check_engine("banded_xla", KernelSpec(architecture_named(name), kind, "float64"))
