#!/usr/bin/env bash
# Prints the path of the first of these Pythons that is installed: find_python.sh 3.13 3.12
set -uo pipefail

print='import ensurepip, os, sys; print(os.path.realpath(sys.executable))'
try() { if "$@" -c "$print" 2>/dev/null; then exit; fi; }

# Version managers put a python3.12 on the path even if it is not installed: run it to see.
for version in "$@"; do
  try "python$version"
  PYENV_VERSION=$version try "python$version"
done
for version in "$@"; do
  try uv run --quiet --isolated --no-project --python "$version" python
done
exit 1
