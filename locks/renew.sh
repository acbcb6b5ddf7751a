#!/usr/bin/env bash
# Writes the hashes of the packages that the constraints files pin, from the repository's root:
#   dev.txt         Python 3.10, everything for development, without CUDA
#   cuda.txt        Python 3.10, for the image: what kipper[cuda] needs, and no more
#   later.txt       Python 3.11 to 3.13, the same
#   build.txt       Python 3.10, for the image: what builds kipper's wheel
#   pip.txt         the pip of the image
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

grep -v '^jax-cuda12\|^nvidia-' constraints.txt >"$inputs/dev.in"
lock "$inputs/dev.in" dev.txt --no-deps "${on_3_10[@]}"

.venv/bin/python - >"$inputs/cuda.in" <<'PROGRAM'
import importlib.metadata

from packaging.requirements import Requirement

for text in importlib.metadata.requires("kipper"):
    found = Requirement(text)
    if found.marker is None or any(found.marker.evaluate({"extra": e}) for e in ("", "cuda")):
        found.marker = None
        print(found)
PROGRAM
lock "$inputs/cuda.in" cuda.txt --constraint constraints.txt "${on_3_10[@]}"

lock constraints-later.txt later.txt --no-deps --universal --python-version 3.11

printf '%s\n' jaxlib==0.5.3 setuptools wheel >"$inputs/build.in"
lock "$inputs/build.in" build.txt --constraint constraints.txt "${on_3_10[@]}"

echo pip==26.3 >"$inputs/pip.in"
lock "$inputs/pip.in" pip.txt --no-deps "${on_3_10[@]}"
