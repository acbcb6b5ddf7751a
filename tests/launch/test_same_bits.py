"""A run has the same bits on hosts that differ: BLAS kernels, threads, affinities, Pythons.

Each setting has a process of its own, because libraries read it when they are loaded. The process
carries out every run: most of its time goes to its start.
"""

import functools
import json
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

COMMANDS = {
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

RUNS = [(command, architecture) for command in COMMANDS for architecture in ("fc1", "convnet")]
DISTILL = [each for each in RUNS if each[0] == "distill"]
PROGRAM = """
import json, sys
from kipper.launch.main import run
for words in json.loads(sys.argv[1]):
    if run(words) != 0:
        sys.exit(f"failed: {words}")
"""

# The kernels that OpenBLAS has for a processor with these flags.
BLAS_KERNELS = {
    "Prescott": set(),
    "Nehalem": {"sse4_2"},
    "Sandybridge": {"avx"},
    "Haswell": {"avx2", "fma"},
    "Zen": {"avx2", "fma"},
    "SkylakeX": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
}


def carry_out(
    folder: pathlib.Path,
    *flags: str,
    runs: list[tuple[str, str]] = RUNS,
    python: str = sys.executable,
    before: tuple[str, ...] = (),
    **environment: str,
) -> None:
    """Carries out runs in one process, each in a folder of its own."""
    every = [
        [
            *(command, *SHARED, f"--workdir={folder / command}_{architecture}"),
            *(f"--architecture={architecture}", *COMMANDS[command], *flags),
        ]
        for command, architecture in runs
    ]
    done = subprocess.run(
        [*before, python, "-c", PROGRAM, json.dumps(every)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def bits(
    folder: pathlib.Path, runs: list[tuple[str, str]] = RUNS
) -> dict[tuple[str, str], dict[str, bytes]]:
    """The distilled arrays of each run."""
    found = {}
    for command, architecture in runs:
        with np.load(folder / f"{command}_{architecture}" / "distilled.npz") as arrays:
            found[command, architecture] = {
                name: arrays[name].tobytes() for name in ("images", "labels")
            }
    return found


@functools.cache
def usual() -> dict[tuple[str, str], dict[str, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        carry_out(pathlib.Path(folder))
        return bits(pathlib.Path(folder))


@pytest.mark.parametrize("kernel", BLAS_KERNELS)
def test_no_kernel_of_openblas_changes_a_bit(tmp_path, kernel):
    if "OPENBLAS_CORETYPE" in os.environ:
        pytest.skip("OPENBLAS_CORETYPE is set in this environment, which wants that kernel")
    if not BLAS_KERNELS[kernel] <= processor_flags():
        pytest.skip(f"this processor cannot run OpenBLAS's kernels for {kernel}")
    carry_out(tmp_path, OPENBLAS_CORETYPE=kernel)
    assert bits(tmp_path) == usual()


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_no_number_of_threads_changes_a_bit(tmp_path, threads):
    limits = {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    carry_out(tmp_path, f"--threads={threads}", **limits)
    assert bits(tmp_path) == usual()


@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is not installed")
def test_a_process_that_is_bound_to_one_core_changes_no_bit(tmp_path):
    core = str(min(os.sched_getaffinity(0)))
    carry_out(tmp_path, before=("taskset", "-c", core))
    assert bits(tmp_path) == usual()


def test_another_python_changes_no_bit(tmp_path, another_python):
    carry_out(tmp_path, python=another_python)
    assert bits(tmp_path) == usual()


def test_a_run_that_another_python_resumes_has_the_same_bits(tmp_path, another_python):
    carry_out(tmp_path, "--steps=2", runs=DISTILL, python=another_python)
    carry_out(tmp_path, runs=DISTILL)
    assert bits(tmp_path, DISTILL) == {each: usual()[each] for each in DISTILL}
