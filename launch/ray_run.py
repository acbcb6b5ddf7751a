"""A run whose workers are actors of Ray; the coordinator is in this process."""

import importlib.util

from kipper.common.errors import UserError
from kipper.common.settings import RunSettings
from kipper.launch.coordinator import claimed_run, coordinate_here
from kipper.server.experiment import prepare
from kipper.server.records import RunResult


def run_on_ray(settings: RunSettings) -> RunResult:
    """Runs with workers on the nodes of a Ray cluster.

    The first Ctrl-C or SIGTERM ends the run after the step in progress, the second at once. All
    actors end with this process, however it ends.

    Raises:
        UserError: a setting, the data or the cluster cannot be used, or Ray is not installed.
    """
    check_ray()
    from kipper.launch.ray.clusters import connected
    from kipper.launch.ray.joining import actors_joining
    from kipper.launch.ray.placement import Need

    with claimed_run(settings) as dataset:
        experiment, execution = prepare(settings.compute, dataset), settings.execution
        need = Need(cpus=execution.threads_per_worker)
        with connected(execution.ray_address, need, execution.num_workers):
            return coordinate_here(
                settings, experiment, links=(), joining=actors_joining(settings, need)
            )


def check_ray() -> None:
    """Checks that Ray is installed.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError(
            'Ray is not installed, which --launch=ray needs: python -m pip install "ray" installs '
            "it, of the version that the cluster has."
        )
