#!/usr/bin/env bash
# Prints the path of a Python that kipper runs on, or says on stderr why there is none:
#   find_python.sh            the first of 3.10, 3.13, 3.12 and 3.11 that is installed
#   find_python.sh 3.13 3.12  the first of these versions that is installed
#   find_python.sh PATH       this one, a path or a command
# If none of the versions is installed but uv is, uv fetches the first.
set -uo pipefail

every="3.10 3.13 3.12 3.11"
# Debian has Pythons without ensurepip, which cannot make environments.
program='
import os, sys
version = "%d.%d" % sys.version_info[:2]
if version not in sys.argv[1:]:
    sys.exit("%s is Python %s" % (sys.executable, version))
try:
    import ensurepip
except ImportError:
    sys.exit("%s lacks ensurepip: install python%s-venv" % (sys.executable, version))
print(os.path.realpath(sys.executable))
'
lacking=""
try() { # try VERSIONS COMMAND…: prints the path and ends the script, or keeps the last line of why not
  # shellcheck disable=SC2086  # several words
  if answer=$("${@:2}" -c "$program" $1 2>&1); then
    echo "$answer"
    exit
  fi
  answer=${answer##*$'\n'} answer=${answer#*: line *: }
  [[ $answer != *" lacks ensurepip: "* ]] || lacking=" ($answer)"
}

wanted=${*:-$every}
case " $every " in
  *" ${1:-3.10} "*) ;;
  *)
    try "$every" "$1"
    echo "PYTHON=$1 is no Python from 3.10 to 3.13 ($answer)." >&2
    exit 1
    ;;
esac
# Version managers put a python3.12 on the path even if it is not installed: run it to see.
for version in $wanted; do
  try "$version" "python$version"
  PYENV_VERSION=$version try "$version" "python$version"
  try "$version" python3
done
for downloads in --no-python-downloads ""; do
  for version in $wanted; do
    # shellcheck disable=SC2086  # a word or none
    try "$version" uv run --quiet --isolated --no-project $downloads --python "$version" python
  done
done
echo "kipper needs Python ${wanted// / or }; neither it nor uv, which could fetch it, was found$lacking." \
  "Install it and run this again." >&2
exit 1
