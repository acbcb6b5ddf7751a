"""The environment of a run: Python, packages, processor, and the revision of kipper."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess

from kipper import __version__
from kipper.common.cores import usable_cores
from kipper.common.processor import processor_name
from kipper.server.records import Json

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
EARLIER = "earlier"  # in environment.json: environments of earlier coordinators
ROOT = pathlib.Path(__file__).parents[2]


def with_earlier(now: Json, before: Json) -> Json:
    """The environment of a coordinator, with those of the run's earlier ones that differed.

    Args:
        now: the environment of this coordinator.
        before: environment.json as the coordinator before left it.

    Raises:
        TypeError: `before` is not what this module writes.
    """
    found = [*before.get(EARLIER, ()), {k: v for k, v in before.items() if k != EARLIER}]
    if not all(isinstance(each, dict) for each in found):
        raise TypeError("an earlier environment is not an object")
    distinct = {_content(each): each for each in found}
    distinct.pop(_content(now), None)
    return {**now, EARLIER: list(distinct.values())} if distinct else now


def _content(environment: Json) -> str:
    """An environment without its time and its workers."""
    kept = {k: v for k, v in environment.items() if k not in ("started", "workers")}
    return json.dumps(kept, sort_keys=True)


def describe_environment() -> Json:
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
