#!/usr/bin/env bash
# Makes a virtual environment with kipper in it, from the repository's root:
#   make_venv.sh FOLDER             all of kipper, on Python 3.10
#   make_venv.sh FOLDER standalone  without the service, on a later Python
set -euo pipefail

venv=$1
if [[ ${2:-} == standalone ]]; then
  versions="3.13 3.12 3.11" lock=locks/later.txt size="1 GB"
else
  versions="3.10" lock=locks/dev.txt size="2 GB"
fi
rm -rf "$venv"
# shellcheck disable=SC2086  # several words
if ! python=$(bash launch/find_python.sh $versions); then
  echo "kipper needs Python ${versions// / or }; neither it nor uv, which could fetch it, was found." \
       "Install one of them and run this again." >&2
  exit 1
fi
"$python" -m venv "$venv"
echo "Installing kipper into $venv (about $size; a few minutes the first time)"
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "$@" \
  2> >(grep -v '^WARNING' >&2); }
# The lock lists every package, and pip refuses a file whose hash is not in it.
install --require-hashes --requirement "$lock"
# With the setuptools and the jaxlib of the lock, instead of ones that pip would fetch for the build.
install --no-build-isolation --editable .
