#!/usr/bin/env bash
# Writes the hashes of the packages that the constraints files pin, from the repository's root:
#   dev.txt         Python 3.10, everything for development, without CUDA
#   later.txt       Python 3.11 to 3.13, the same
#   pip.txt, build.txt, image.txt, cuda.txt
#                   Python 3.13, for the image: its pip, what builds kipper's wheel, what kipper and
#                   Ray's jobs need, and what kipper[cuda] needs besides
# Each lists all files of a release, so that the same lock serves every Linux that has a wheel.
# pip install --require-hashes refuses a file that is not listed. Needs uv, and an environment of
# `make` to read kipper's requirements from.
set -euo pipefail

lock() {
  local input=$1 output=$2
  shift 2
  uv pip compile "$input" --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet \
    --output-file "locks/$output" "$@"
}
on_3_10=(--python-version 3.10 --python-platform x86_64-unknown-linux-gnu)
inputs=$(mktemp -d)
trap 'rm -rf "$inputs"' EXIT

grep -v '^jax-cuda12\|^nvidia-\|^cuda-\|^backports-strenum' constraints.txt >"$inputs/dev.in"
lock "$inputs/dev.in" dev.txt --no-deps "${on_3_10[@]}"

lock constraints-later.txt later.txt --no-deps --universal --python-version 3.11

# The image has the versions that kipper is tested with, where tests need the package too.
.venv/bin/python - "$inputs" <<'PROGRAM'
import importlib.metadata
import pathlib
import sys

from packaging.requirements import Requirement


def needed(*extras: str) -> set[str]:
    """kipper's requirements on the image's Python."""
    found = map(Requirement, importlib.metadata.requires("kipper"))
    where = [{"python_version": "3.13", "extra": extra} for extra in ("", *extras)]
    needed = {
        each
        for each in found
        if each.marker is None or any(each.marker.evaluate(each_of) for each_of in where)
    }
    for each in needed:
        each.marker = None
    return set(map(str, needed))


inputs = pathlib.Path(sys.argv[1])
# KubeRay submits a run to Ray's dashboard, which is not among the requirements of Ray itself.
image = sorted(needed("service") | {"ray[default]"})
(inputs / "image.in").write_text("\n".join(image) + "\n")
(inputs / "cuda.in").write_text("\n".join([*image, *needed("cuda")]) + "\n")
(inputs / "build.in").write_text("setuptools\n")
PROGRAM
on_3_13=(--constraint constraints-later.txt --python-version 3.13
  --python-platform x86_64-unknown-linux-gnu)
lock "$inputs/build.in" build.txt "${on_3_13[@]}"
lock "$inputs/image.in" image.txt "${on_3_13[@]}"
mapfile -t in_both < <(sed -n 's/^\([^= ]*\)==.*/--no-emit-package=\1/p' locks/image.txt)
lock "$inputs/cuda.in" cuda.txt --constraint locks/image.txt "${on_3_13[@]}" "${in_both[@]}"

echo pip==26.3 >"$inputs/pip.in"
lock "$inputs/pip.in" pip.txt --no-deps "${on_3_13[@]}"
