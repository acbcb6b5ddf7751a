"""Applies the objects of a run (`manifests.py`) to a Kubernetes cluster, or prints them."""

import shutil
import subprocess

from kipper.common.errors import KipperError, UserError
from kipper.common.settings import LaunchSettings, RunSettings
from kipper.launch.cluster.manifests import Manifest, make_manifests
from kipper.launch.cluster.plan import check_extra


class NotApplied(KipperError):
    """kubectl rejected the objects."""


def launch_on_kubernetes(launch: LaunchSettings, settings: RunSettings) -> None:
    """Applies the objects and returns; Kubernetes runs them.

    Raises:
        UserError: a flag cannot be used, or PyYAML or kubectl is missing.
        NotApplied: kubectl's reason.
    """
    text = as_yaml(make_manifests(launch, settings))
    if launch.dry_run:
        print(text, end="")
        return
    if shutil.which("kubectl") is None:
        raise UserError(
            "kubectl is not on the path; install it, or give --dry_run and apply its output where "
            "kubectl is installed."
        )
    applied = subprocess.run(
        ["kubectl", "apply", "-f", "-"], input=text, text=True, capture_output=True
    )
    print(applied.stdout, end="")
    if applied.returncode != 0:
        reason = (applied.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NotApplied(f"kubectl rejected the run's objects: {reason}.")
    print(
        f"kubectl logs --follow job/{launch.name}-coordinator --namespace={launch.namespace}   "
        "shows its progress."
    )


def as_yaml(manifests: list[Manifest]) -> str:
    """The objects as YAML documents.

    Raises:
        UserError: PyYAML is not installed.
    """
    check_extra("kubernetes", "PyYAML", "yaml")
    import yaml

    class Plain(yaml.SafeDumper):
        """Writes out repeated values instead of references to them."""

        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
            return True

    return yaml.dump_all(manifests, Dumper=Plain, sort_keys=False, width=1000)
