"""Tries Ray for `kipper doctor`, in a process of its own: Ray changes the process that imports it.

Prints what it found, or a sentence to stderr.
"""

import sys

from kipper.common import logs
from kipper.common.errors import KipperError
from kipper.common.lazy_imports import import_without_collection
from kipper.common.settings import ExecutionSettings
from kipper.common.settings.execution import LOCAL_RAY


def describe_ray(address: str) -> str:
    """Connects to the Ray at an address, as --ray_address takes it, and says what is there.

    Raises:
        KipperError: a run could not begin there; the message says why.
    """
    import_without_collection("jax")  # which the next one brings
    from kipper.launch.ray_run import check_ray, set_up_ray

    check_ray()
    set_up_ray(address)
    import ray

    from kipper.launch.ray import clusters
    from kipper.launch.ray.placement import Resources

    settings = ExecutionSettings(workdir=".", launch="ray", ray_address=address, num_workers=1)
    with clusters.connected(settings):
        if address == LOCAL_RAY:
            return f"{ray.__version__}: it started on this machine and ended"
        nodes = clusters.nodes()
        has = Resources(sum(node.cpus for node in nodes), sum(node.gpus for node in nodes))
        number = f"{len(nodes)} node{'s' if len(nodes) != 1 else ''}"
        return f"{ray.__version__}: {number} with {has}"


if __name__ == "__main__":
    logs.quiet_native_libraries()
    try:
        print(describe_ray(sys.argv[1]))
    except KipperError as error:
        sys.exit(str(error))
