"""`kipper launch`: starts a run on hosts by ssh, or on Slurm."""

from kipper.common.errors import UserError
from kipper.common.settings import LaunchSettings, RunSettings
from kipper.launch.cluster.plan import check_launch

_HOSTS = "hosts:"


def launch(launch: LaunchSettings, settings: RunSettings) -> None:
    """The command. Imports only the module of the chosen cluster.

    Raises:
        KipperError: the launch failed.
    """
    check_launch(launch, settings)
    cluster = launch.cluster or ""
    if cluster.startswith(_HOSTS) and len(cluster) > len(_HOSTS):
        from kipper.launch.cluster.hosts import launch_on_hosts

        launch_on_hosts(launch, settings, cluster.removeprefix(_HOSTS))
    elif cluster == "slurm":
        from kipper.launch.cluster.slurm import launch_on_slurm

        launch_on_slurm(launch, settings)
    else:
        what = f"--cluster is {cluster!r}; it must be" if cluster else "--cluster is required:"
        raise UserError(f"{what} hosts:FILE or slurm. For Kubernetes see docs/kubernetes.md.")
