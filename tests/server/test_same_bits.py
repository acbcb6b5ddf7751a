"""A coordinator's results have the same bits wherever and however they are computed."""

import functools
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from another_python import path_of_another_python  # noqa: F401

from kipper.common import linalg
from kipper.common.native.build import library_path
from kipper.common.processor import instruction_sets, processor_flags

SCRIPT = pathlib.Path(__file__).parent.parent / "same_bits.py"
# The flag that OpenBLAS's kernel for each kind of processor needs.
OPENBLAS_KERNELS = {"Sandybridge": "avx", "Haswell": "avx2", "SkylakeX": "avx512f"}

pytestmark = pytest.mark.skipif(
    linalg.unavailable() is not None, reason="no library of linear algebra is built"
)


def hashes(*command, **environment):
    """What same_bits.py prints, for a Python and its arguments."""
    python, *arguments = command
    finished = subprocess.run(
        [*python, SCRIPT, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.splitlines()


@functools.cache
def expected():
    """The hashes of a process like this one."""
    lines = hashes([sys.executable])
    assert len(lines) > 20
    return lines


@pytest.mark.parametrize("kernel", OPENBLAS_KERNELS)
def test_for_every_kernel_of_openblas(kernel):
    if "OPENBLAS_CORETYPE" in os.environ:
        pytest.skip("OPENBLAS_CORETYPE is set")
    if OPENBLAS_KERNELS[kernel] not in processor_flags():
        pytest.skip(f"this processor cannot run OpenBLAS's kernel for {kernel}")
    assert hashes([sys.executable], OPENBLAS_CORETYPE=kernel) == expected()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_for_any_number_of_blas_threads(threads):
    assert hashes([sys.executable], OPENBLAS_NUM_THREADS=threads) == expected()


def test_on_a_single_core():
    if shutil.which("taskset") is None:
        pytest.skip("taskset is not installed")
    core = str(min(os.sched_getaffinity(0)))
    assert hashes(["taskset", "-c", core, sys.executable]) == expected()


@pytest.mark.parametrize("level", instruction_sets())
def test_for_every_instruction_set_with_fused_operations(level):
    if not library_path(level).exists():
        pytest.skip(f"no library for {level} is built")
    same = hashes([sys.executable], level) == expected()
    assert same == (level != "x86-64-v2" or instruction_sets()[0] == level)


def test_for_numpy_without_its_vector_instructions():
    found = [name for name in ("AVX512F", "AVX512_SKX", "AVX2", "FMA3") if has(name)]
    if not found:
        pytest.skip("numpy uses no optional instructions on this processor")
    assert hashes([sys.executable], NPY_DISABLE_CPU_FEATURES=" ".join(found)) == expected()


def has(feature):
    """Whether numpy may use a feature of the processor."""
    flag = {"AVX512_SKX": "avx512bw", "FMA3": "fma"}.get(feature, feature.lower())
    return flag in processor_flags()


def test_on_another_python_with_another_numpy(another_python):
    assert hashes([another_python]) == expected()
