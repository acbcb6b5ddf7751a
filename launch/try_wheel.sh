#!/usr/bin/env bash
# Installs what `make wheel` built into empty environments, and uses it as a new user would:
#   try_wheel.sh PYTHON    the interpreter for the environments
# The wheel with the newest packages that it admits, then the source distribution, then the wheel
# with the oldest, on which tests run.
set -euo pipefail

python=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
wheel=$(realpath dist/*.whl)
source=$(realpath dist/*.tar.gz)
tests=$(realpath tests)

pip() {
  "$folder/$1/bin/python" -m pip install --quiet --disable-pip-version-check "${@:2}" \
    2> >(grep -v '^WARNING' >&2)
}
try() { # try ENVIRONMENT: outside the repository, whose packages are not to be found
  echo "Trying $("$folder/$1/bin/kipper" --version) with $2."
  (cd "$folder" && "$folder/$1/bin/kipper" distill --workdir="$folder/run-$1" --overwrite \
    --dataset=digits --architecture=fc1 --support_size=10 --steps=5 --eval_every=5)
  [[ -s $folder/run-$1/figures/distilled.png ]]
  (cd "$folder" && "$folder/$1/bin/kipper" doctor)
}

"$python" -m venv "$folder/newest"
pip newest "$wheel"
try newest "$(basename "$wheel")"
pip newest --no-deps --force-reinstall "$source"
try newest "$(basename "$source")"

# The lower bounds of what kipper requires itself; what these require is up to pip.
"$python" -m venv "$folder/oldest"
"$folder/newest/bin/python" - >"$folder/oldest.txt" <<'PROGRAM'
import importlib.metadata

from packaging.requirements import Requirement

for each in map(Requirement, importlib.metadata.requires("kipper")):
    if each.marker is None or each.marker.evaluate({"extra": "service"}):
        (lowest,) = (bound.version for bound in each.specifier if bound.operator in (">=", "=="))
        print(f"{each.name}=={lowest}")
PROGRAM
pip oldest --constraint "$folder/oldest.txt" "${wheel}[service]" \
  pytest pytest-timeout pytest-xdist hypothesis PyYAML
try oldest "the oldest packages that it admits"
cd "$folder"
# The simulated GPU is compiled from sources that the wheel does not need.
"$folder/oldest/bin/python" -m pytest -c /dev/null -q -n 2 --dist=loadfile --import-mode=importlib -p no:cacheprovider \
  --disable-warnings -o pythonpath="$tests" \
  --ignore="$tests/workers/test_simulated_gpu.py" --ignore="$tests/workers/test_cuda_device.py" \
  "$tests/common" "$tests/workers" -m "not slow and not thorough and not processes"
