#!/usr/bin/env bash
# Makes a virtual environment with kipper in it, from the repository's root: make_venv.sh FOLDER
# With a version or a path as second argument it is made with that Python; see find_python.sh.
set -euo pipefail

venv=$1
python=$(bash launch/find_python.sh ${2:+"$2"})
version=$("$python" -c 'import platform; print(platform.python_version())')
case $version in
  3.10.*) lock=locks/dev.txt ;;
  *) lock=locks/later.txt ;;
esac
rm -rf "$venv"
"$python" -m venv "$venv"
echo "Installing kipper into $venv with Python $version of $python (about 2 GB; a few minutes the first time)"
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$@" \
  2> >(grep -v '^WARNING' >&2); }
# The lock lists every package, and pip refuses a file whose hash is not in it.
install --require-hashes --requirement "$lock"
# With the setuptools and the jaxlib of the lock, instead of ones that pip would fetch for the build.
PYTHONWARNINGS=ignore install --no-build-isolation --editable .
