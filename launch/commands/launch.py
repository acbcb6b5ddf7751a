"""`kipper launch`: starts a run on hosts by ssh, on Slurm, Kubernetes or Vertex AI."""

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
    if launch.lp_launch_type is not None:
        from kipper.launch.cluster.vertex_ai import launch_on_vertex_ai

        launch_on_vertex_ai(settings)
        return
    cluster = launch.cluster or ""
    if cluster.startswith(_HOSTS) and len(cluster) > len(_HOSTS):
        from kipper.launch.cluster.hosts import launch_on_hosts

        launch_on_hosts(launch, settings, cluster.removeprefix(_HOSTS))
    elif cluster == "slurm":
        from kipper.launch.cluster.slurm import launch_on_slurm

        launch_on_slurm(launch, settings)
    elif cluster == "kubernetes":
        from kipper.launch.cluster.kubernetes import launch_on_kubernetes

        launch_on_kubernetes(launch, settings)
    else:
        raise UserError(
            f"--cluster is {launch.cluster!r}; it must be hosts:FILE, slurm or kubernetes."
            if launch.cluster
            else "--cluster is required: hosts:FILE, slurm or kubernetes."
        )
