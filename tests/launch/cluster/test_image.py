"""The image for clusters fits the files copied into it."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
ADMITTED = {
    line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
}


def test_exactly_the_files_of_the_package_are_copied():
    rooms = {"common", "launch", "server", "workers"}
    files = {"LICENSE", "__init__.py", "__main__.py", "pyproject.toml", "setup.py"}
    assert rooms | files | {"locks"} == ADMITTED
    assert all((ROOT / name).exists() for name in ADMITTED)


def test_the_python_is_that_of_the_constraints():
    (version,) = re.findall(r"on Python ([\d.]+) ", (ROOT / "constraints.txt").read_text())
    assert set(re.findall(r"FROM python:([\d.]+)-", DOCKERFILE)) == {version}


def test_every_pinned_cuda_package_is_of_one_release():
    pins = (ROOT / "constraints.txt").read_text()
    jax = re.search(r"^jax==(.*)$", pins, re.M)[1]
    assert f"jax-cuda12-plugin=={jax}\n" in pins
    assert f"jax-cuda12-pjrt=={jax}\n" in pins
