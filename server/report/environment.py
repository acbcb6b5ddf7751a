"""The environment of a run: Python, packages, processor, and the revision of kipper."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

from kipper import __version__
from kipper.common.cores import usable_cores
from kipper.common.processor import processor_name

_PACKAGES = (
    "jax",
    "jaxlib",
    "neural-tangents",
    "numpy",
    "scipy",
    "optax",
    "dm-launchpad",
    "grpcio",
)
ROOT = pathlib.Path(__file__).parents[2]


def describe_environment() -> dict[str, Any]:
    """The environment of this process, for environment.json."""
    return {
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "kipper": __version__,
        "revision": _revision(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "system": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "cores_usable": usable_cores(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The commit that is checked out, "-dirty" if files differ; None if kipper is installed."""
    if not (ROOT / ".git").exists():  # installed, perhaps inside a checkout of something else
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
