"""The program of a GPU, simulated, under the address and undefined-behaviour sanitizers."""

import os
import pathlib
import subprocess
import sys

import pytest
import simulated_gpu

pytestmark = pytest.mark.slow  # `make sanitize` runs it

SANITIZERS = ("-O1", "-g1", "-fno-sanitize-recover=all", "-fsanitize=address,undefined")
PASSES = """
import pathlib, sys
import numpy as np
from simulated_gpu import SimulatedGpu
from kipper.common.architecture import architecture_named
from kipper.workers.bands import banded_network
from kipper.workers.banded_cuda import *
from kipper.workers.engine import PreparedImages
from kipper.workers.resident_images import Residency

name, *sides, dtype, library = sys.argv[1:]
shape = (*map(int, sides), 3)
network = banded_network(architecture_named(name), *shape[:2])
rng = np.random.default_rng(0)
x1, x2 = rng.normal(size=(2, 2, *shape)).astype(dtype)
gpu = SimulatedGpu(pathlib.Path(library))
v1, v2 = (variance_maps(gpu, network, x) for x in (x1, x2))
variance_maps_vjp(gpu, network, x1, v1)
for kind in ("nngp", "ntk"):
    images = (network, PreparedImages(x1, v1), PreparedImages(x2, v2))
    banded = BandedCuda(Residency(gpu), kind)
    kernel, _, kept = banded.linearised_cross_kernel(*images)
    for both in (False, True):
        again, _, *pulled = banded.cross_kernel_vjp(*images, kernel, both=both)
        later = banded.pulled_back(*images, kernel, kept.array, both=both)
        assert all(map(np.array_equal, [again, *pulled], [kernel, *later]))
print("no complaint")
"""


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """The library, and the sanitizer that a process must load first."""
    runtime = subprocess.run(
        [*simulated_gpu.COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True
    ).stdout.strip()
    if not pathlib.Path(runtime).is_absolute():
        pytest.skip("the compiler has no address sanitizer")
    library = tmp_path_factory.mktemp("sanitized") / "gpu.so"
    simulated_gpu.build(library, *SANITIZERS)
    return library, runtime


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "sides"),
    [("convnet", (9, 11)), ("conv_vec5", (2, 33)), ("myrtle5", (7, 5)), ("convnet3", (9, 70))],
)
def test_every_pass_ends_without_complaint(sanitized, name, sides, dtype):
    library, runtime = sanitized
    tests = os.path.dirname(simulated_gpu.__file__)
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's
        "PYTHONPATH": os.pathsep.join([tests, *sys.path]),
    }
    command = [sys.executable, "-c", PASSES, name, *map(str, sides), dtype, library]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "no complaint\n"), done.stderr
