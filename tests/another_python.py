"""Another Python with kipper, beside the one of the tests."""

import functools
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
# What bits may depend on; kipper and all that a worker on another host needs are imported.
_IDENTITY = """
import sys, jaxlib, numpy, scipy, grpc, cryptography, kipper.launch.main
print(sys.version_info[:2], jaxlib.__version__, numpy.__version__, scipy.__version__)
"""


def _identity(python: str) -> str | None:
    """The versions that a Python has; None if it cannot run kipper."""
    found = subprocess.run([python, "-c", _IDENTITY], capture_output=True, text=True)
    return found.stdout if found.returncode == 0 else None


@functools.cache
def _found() -> str | None:
    named = os.environ.get("KIPPER_OTHER_PYTHON")
    places = [pathlib.Path(named)] if named else sorted(ROOT.glob(".venv*/bin/python"))
    own = _identity(sys.executable)
    return next((str(path) for path in places if _identity(str(path)) not in (None, own)), None)


@pytest.fixture(scope="module", name="another_python")
def path_of_another_python() -> str:
    """The Python that KIPPER_OTHER_PYTHON names, or one of the checkout's other environments.

    Skips the test if there is none of another version.
    """
    found = _found()
    if found is None:
        pytest.skip("there is no environment of another Python; make demo PYTHON=3.12 makes one")
    return found
