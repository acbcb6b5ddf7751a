"""The image for clusters fits the files copied into it, and has the libraries that they load."""

import pathlib
import re
import subprocess

import pytest

from kipper.common.native import build as common_build
from kipper.workers.native import build as workers_build

ROOT = pathlib.Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
BASES = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
ADMITTED = {
    line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
}
# Debian's package of each shared library, and those that python:*-slim comes with.
PACKAGES = {
    "ld-linux-x86-64.so.2": "libc6",
    "libc.so.6": "libc6",
    "libgcc_s.so.1": "libgcc-s1",
    "libm.so.6": "libc6",
    "libstdc++.so.6": "libstdc++6",
}
OF_THE_BASE = {"libc6", "libgcc-s1", "libstdc++6"}


def test_exactly_the_files_of_the_package_are_copied():
    rooms = {"common", "launch", "server", "workers"}
    signatures = {"__init__.pyi", "py.typed"}
    files = {"LICENSE", "__init__.py", "__main__.py", "pyproject.toml", "setup.py"}
    assert rooms | files | signatures | {"locks"} == ADMITTED
    assert all((ROOT / name).exists() for name in ADMITTED)


def test_both_images_have_the_python_of_their_locks():
    renew = (ROOT / "locks" / "renew.sh").read_text()
    (version,) = re.findall(r"on_(3_\d+)=\(--constraint", renew)
    build, cpu, default = BASES
    assert build == cpu == f"python:{version.replace('_', '.')}-slim-bookworm"
    assert default == "cpu"


@pytest.mark.parametrize(
    "library",
    sorted([*common_build.LIBRARIES.glob("*.so"), *workers_build.LIBRARIES.glob("*.so")]),
    ids=lambda path: path.name,
)
def test_the_image_has_every_library_that_a_native_one_loads(library):
    headers = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True)
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", headers.stdout)
    assert needed
    _, _, last_stages = DOCKERFILE.partition(" AS cpu\n")
    (installed,) = re.findall(r"apt-get install (.*)", last_stages)
    assert {PACKAGES[name] for name in needed} <= OF_THE_BASE | set(installed.split())


def test_both_builds_end_by_checking_the_image_as_its_user():
    for stage in re.split(r"^FROM .*\n", DOCKERFILE, flags=re.M)[2:]:
        *_, user, last = re.findall(r"^(USER .*|RUN kipper doctor)$", stage, re.M)
        assert (user, last) == ("USER 1000", "RUN kipper doctor")
    assert "useradd --uid=1000 " in DOCKERFILE


def test_cuda_is_that_of_the_images_jax():
    lock = (ROOT / "locks" / "image.txt").read_text() + (ROOT / "locks" / "cuda.txt").read_text()
    versions = re.findall(r"^(?:jax|jaxlib|jax-cuda12-plugin|jax-cuda12-pjrt)==(\S+)", lock, re.M)
    assert len(versions) == 4
    assert len(set(versions)) == 1
