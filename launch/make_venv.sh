#!/usr/bin/env bash
# Makes a virtual environment with kipper in it: make_venv.sh FOLDER, from the repository's root.
set -euo pipefail

venv=$1
rm -rf "$venv"
# Version managers put a python3.10 on the path that only says that it is not there: run it to see.
if python3.10 -c 'import venv' >/dev/null 2>&1; then
  python3.10 -m venv "$venv"
elif command -v uv >/dev/null 2>&1; then
  uv venv --quiet --seed --python 3.10 "$venv"
else
  echo "kipper needs Python 3.10 (Launchpad has no release for later ones) and found neither" \
       "python3.10 nor uv; install one of them and run this again." >&2
  exit 1
fi
echo "Installing kipper into $venv (about 2 GB; a few minutes the first time)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  --constraint constraints.txt --editable '.[dev]' 2> >(grep -v '^WARNING' >&2)
