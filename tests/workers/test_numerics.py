"""The numeric identity of engines: what it names, and that it distinguishes arithmetics."""

import functools
from collections.abc import Callable

import jaxlib
import numpy as np
import pytest

from kipper.common import linalg
from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.numerics import Numerics
from kipper.common.processor import processor_name
from kipper.workers import arithmetic, dense_engine, native_library
from kipper.workers.banded_cpu_engine import NativeBandedEngine
from kipper.workers.choice import make_engine
from kipper.workers.engine import Engine
from kipper.workers.numerics import numerics_of


def of(architecture: str, engine: str, dtype: str = "float32", threads: int = 1):
    spec = KernelSpec(architecture_named(architecture), "ntk", dtype)
    return numerics_of([make_engine(engine, spec, threads)], [spec])


def test_native_code_is_named_by_its_sources_and_instruction_set() -> None:
    found = of("convnet", "auto")
    assert found.engine == "banded_cpu"
    assert found.arithmetic.startswith("native code ")
    assert found.arithmetic.endswith(
        (" fused operations", " separate operations", " native operations")
    )
    assert len(found.check) == 8
    assert str(found) == f"banded_cpu by {found.arithmetic}, check {found.check}"


def test_xla_is_named_by_its_version_and_processor() -> None:
    found = of("convnet", "banded_xla")
    assert found.arithmetic.startswith(f"XLA {jaxlib.__version__} on {processor_name()}, ")


def test_threads_do_not_change_the_identity_of_native_code() -> None:
    assert of("convnet", "auto", threads=1) == of("convnet", "auto", threads=2)


def test_kernels_of_a_run_have_one_identity() -> None:
    specs = [KernelSpec(architecture_named(name), "ntk", "float32") for name in ("fc1", "convnet")]
    engines = [make_engine("auto", spec, 1) for spec in specs]
    both = numerics_of(engines, specs)
    assert both.engine == "dense, banded_cpu"
    alone = [numerics_of([e], [s]).check for e, s in zip(engines, specs, strict=True)]
    assert both.check not in alone


def at_every_level(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Engine], spec: KernelSpec
) -> dict[str, Numerics]:
    found = {}
    for level in native_library.runnable_levels():
        with monkeypatch.context() as patched:
            patched.setattr(native_library, "runnable_levels", lambda level=level: [level])
            patched.setattr(arithmetic, "runnable_levels", lambda level=level: [level])
            patched.setattr(linalg, "instruction_sets", lambda level=level: (level,))
            found[level] = numerics_of([make()], [spec])
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("architecture", ["convnet", "fc3"])
def test_instruction_sets_with_fused_operations_have_one_identity(
    monkeypatch: pytest.MonkeyPatch, architecture: str, dtype: str
) -> None:
    spec = KernelSpec(architecture_named(architecture), "ntk", dtype)
    make: dict[str, Callable[[], Engine]] = {
        "convnet": lambda: NativeBandedEngine(spec, 1),
        "fc3": functools.partial(dense_engine.make_engine.__wrapped__, spec, 1),
    }
    found = at_every_level(monkeypatch, make[architecture], spec)
    fused = [found[level] for level in ("x86-64-v3", "x86-64-v4") if level in found]
    assert len(set(fused)) <= 1
    if fused:
        assert fused[0].arithmetic.endswith(" fused operations")
        assert found["x86-64-v2"].arithmetic.endswith(" separate operations")
        assert found["x86-64-v2"].check != fused[0].check


def test_the_check_sees_one_bit() -> None:
    spec = KernelSpec(architecture_named("convnet2"), "ntk", "float32")

    class Nudged(NativeBandedEngine):
        def block(self, x1, x2):
            block = super().block(x1, x2).copy()
            block[-1, -1] = np.nextafter(block[-1, -1], np.float32(9))
            return block

    before, nudged = (numerics_of([kind(spec, 1)], [spec]) for kind in (NativeBandedEngine, Nudged))
    assert nudged.check != before.check
    assert nudged.arithmetic == before.arithmetic
