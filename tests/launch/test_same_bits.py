"""A run has the same bits on hosts that differ: BLAS kernels, threads, affinities, Pythons.

Each run is a process of its own, because libraries read these settings when they are loaded.
"""

import functools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from another_python import path_of_another_python  # noqa: F401

from kipper.common.processor import processor_flags

pytestmark = [pytest.mark.thorough, pytest.mark.processes]

RUNS = {
    "distill": (
        "--target_batch_size=40",
        "--steps=4",
        "--learn_labels",
        "--schedule=cosine",
        "--schedule_steps=6",
        "--augment=flip,shift:0.1,rotate:10,color:0.1",
    ),
    "solve_labels": (),
}
SHARED = (
    "--dataset=digits",
    "--support_size=10",
    "--preprocess=zca",
    "--launch=inprocess",
    "--dashboard=none",
    "--num_workers=1",
)

# The kernels that OpenBLAS has for a processor with these flags.
BLAS_KERNELS = {
    "Prescott": set(),
    "Nehalem": {"sse4_2"},
    "Sandybridge": {"avx"},
    "Haswell": {"avx2", "fma"},
    "Zen": {"avx2", "fma"},
    "SkylakeX": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
}


def run(
    workdir: pathlib.Path,
    command: str,
    architecture: str,
    *flags: str,
    python: str = sys.executable,
    before: tuple[str, ...] = (),
    **environment: str,
) -> None:
    asked = (f"--workdir={workdir}", f"--architecture={architecture}", *RUNS[command], *flags)
    done = subprocess.run(
        [*before, python, "-m", "kipper", command, *SHARED, *asked],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def bits(workdir: pathlib.Path) -> dict[str, bytes]:
    with np.load(workdir / "distilled.npz") as arrays:
        return {name: arrays[name].tobytes() for name in ("images", "labels")}


@functools.cache
def usual(command: str, architecture: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        run(pathlib.Path(folder) / "usual", command, architecture)
        return bits(pathlib.Path(folder) / "usual")


EVERY_RUN = pytest.mark.parametrize(
    ("command", "architecture"),
    [(command, architecture) for command in RUNS for architecture in ("fc1", "convnet")],
)


@EVERY_RUN
@pytest.mark.parametrize("kernel", BLAS_KERNELS)
def test_no_kernel_of_openblas_changes_a_bit(tmp_path, command, architecture, kernel):
    if "OPENBLAS_CORETYPE" in os.environ:
        pytest.skip("OPENBLAS_CORETYPE is set in this environment, which wants that kernel")
    if not BLAS_KERNELS[kernel] <= processor_flags():
        pytest.skip(f"this processor cannot run OpenBLAS's kernels for {kernel}")
    run(tmp_path / "run", command, architecture, OPENBLAS_CORETYPE=kernel)
    assert bits(tmp_path / "run") == usual(command, architecture)


@EVERY_RUN
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_no_number_of_threads_changes_a_bit(tmp_path, command, architecture, threads):
    limits = {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    run(tmp_path / "run", command, architecture, f"--threads={threads}", **limits)
    assert bits(tmp_path / "run") == usual(command, architecture)


@EVERY_RUN
@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is not installed")
def test_a_process_that_is_bound_to_one_core_changes_no_bit(tmp_path, command, architecture):
    core = str(min(os.sched_getaffinity(0)))
    run(tmp_path / "run", command, architecture, before=("taskset", "-c", core))
    assert bits(tmp_path / "run") == usual(command, architecture)


@EVERY_RUN
def test_another_python_changes_no_bit(tmp_path, command, architecture, another_python):
    run(tmp_path / "run", command, architecture, python=another_python)
    assert bits(tmp_path / "run") == usual(command, architecture)


@pytest.mark.parametrize("architecture", ["fc1", "convnet"])
def test_a_run_that_another_python_resumes_has_the_same_bits(
    tmp_path, architecture, another_python
):
    run(tmp_path / "run", "distill", architecture, "--steps=2", python=another_python)
    run(tmp_path / "run", "distill", architecture)
    assert bits(tmp_path / "run") == usual("distill", architecture)
