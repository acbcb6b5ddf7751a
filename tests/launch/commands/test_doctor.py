"""`kipper doctor` on a healthy machine and on others."""

import importlib.metadata
import pathlib
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from installation import needs_ray

from kipper.launch import kernels
from kipper.launch.commands import doctor
from kipper.launch.main import run
from kipper.workers import banded_cuda_engine, cuda_library
from kipper.workers.cuda_device import CudaDevice


@pytest.mark.thorough
def test_a_machine_that_passes_these_tests_is_well(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "kipper", "doctor", f"--folder={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    found = {line[5:20].strip(): line[:3].strip() for line in done.stdout.splitlines()}
    assert set(found.values()) <= {"ok", "-", ""}
    engines = {"coordinator", "dense", "banded_cpu", "banded_xla", "banded_cuda", "neural_tangents"}
    assert {name for name, verdict in found.items() if not verdict} == engines
    assert {found[name] for name in ("python", "packages", "kernel", "disk")} == {"ok"}


def test_problems_are_printed_with_a_remedy_and_set_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("_packages", "_devices", "_native", "_kernel", "_courier", "_grpc_tls", "_ray"):
        monkeypatch.setattr(doctor, name, lambda: "not asked")
    monkeypatch.setattr(doctor, "TABLE", ())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert run(["doctor", "--folder=/nowhere"]) == 1
    printed = capsys.readouterr()
    assert "BAD  disk" in printed.out
    assert "there is no folder /nowhere; name one that exists." in printed.out
    assert "1 of 13 checks found something wrong" in printed.err


def test_a_package_of_another_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    true = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "0.0.1" if name == "optax" else true(name))
    with pytest.raises(doctor.Unfit, match=r"optax is 0\.0\.1, expected \S*>=0\.2\.4"):
        doctor._packages()  # this check alone; the command would run all ten


def test_a_checkout_that_is_not_installed_is_said_to_be_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def requires(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", requires)
    with pytest.raises(doctor.Unfit, match="not installed, so that nothing says which packages"):
        doctor._packages()


def test_the_packages_that_ray_brings_inside_its_own_are_not_those_that_are_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    vendored = tmp_path / "ray" / "thirdparty_files"
    (vendored / "optax-0.0.1.dist-info").mkdir(parents=True)
    (vendored / "optax-0.0.1.dist-info" / "METADATA").write_text("Name: optax\nVersion: 0.0.1\n")
    monkeypatch.syspath_prepend(vendored)
    assert importlib.metadata.version("optax") == "0.0.1"
    assert doctor._version("optax") == "0.2.8"


@needs_ray
def test_a_cluster_that_the_environment_names_and_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(doctor.Unfit, match=r"RAY_ADDRESS=127\.0\.0\.1:1: nothing listens there"):
        doctor._ray_cluster()


def test_a_wrong_kernel_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = kernels.kernel

    def wrong(*images: np.ndarray, engine: str = "auto", **named: str) -> np.ndarray:
        return right(*images, engine=engine, **named) * (1.001 if engine == "auto" else 1.0)

    monkeypatch.setattr(kernels, "kernel", wrong)
    with pytest.raises(doctor.Unfit, match="a small kernel differs from"):
        doctor._kernel()


def test_a_gpu_is_described_with_what_compiles_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    card = types.SimpleNamespace(name="NVIDIA H200", arch="90", set_current=lambda: None)
    library = types.SimpleNamespace(
        core=types.SimpleNamespace(Device=lambda index: card),
        utils=types.SimpleNamespace(FileStreamProgramCache=lambda path, max_size_bytes: None),
        driver=types.SimpleNamespace(
            cuMemGetInfo=lambda: (0, 10 * 2**30, 12 * 2**30),
            cuDriverGetVersion=lambda: (0, 13010),
        ),
        nvrtc=types.SimpleNamespace(nvrtcVersion=lambda: (0, 13, 0)),
    )
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "0.4.2")
    monkeypatch.setattr(banded_cuda_engine, "cuda_device", lambda: CudaDevice(library, tmp_path))
    monkeypatch.setattr(cuda_library, "unavailable", lambda: None)
    assert doctor._gpu() == (
        "NVIDIA H200 (sm_90), driver for CUDA 13.1; cuda-core 0.4.2, NVRTC 13.0, programs in "
        f"{tmp_path}; arrays take up to 8.0 GiB"
    )


@pytest.mark.parametrize(("visible", "verdict"), [(True, doctor.Unfit), (False, doctor.Absent)])
def test_what_gpu_kernels_lack_is_wrong_only_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, visible: bool, verdict: type[Exception]
) -> None:
    monkeypatch.setattr(cuda_library, "unavailable", lambda: "cuda-core is not installed.")
    monkeypatch.setattr(cuda_library, "nvidia_gpu_visible", lambda: visible)
    with pytest.raises(verdict, match="cuda-core is not installed"):
        doctor._gpu()


def test_a_full_disk_and_few_files_are_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=2**20))
    with pytest.raises(doctor.Unfit, match="1 MiB free"):
        doctor._disk(tmp_path)
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda which: (256, 4096))
    with pytest.raises(doctor.Unfit, match="256 at most"):
        doctor._files()
