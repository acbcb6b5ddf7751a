"""A run whose workers are actors of Ray; the coordinator is in this process."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from kipper.common.errors import UserError
from kipper.common.settings import RunSettings
from kipper.common.settings.execution import LOCAL_RAY
from kipper.common.this_python import INSTALL_SERVICE, is_installed
from kipper.launch.coordinator import best_keeper, claimed_run, coordinate_here
from kipper.launch.processes.stopping import StopRequest
from kipper.server.experiment import Split, prepare
from kipper.server.pool import Pool
from kipper.server.pool_options import PoolOptions
from kipper.server.records import Onlooker, RunResult
from kipper.server.scheduler.rules import Policy
from kipper.server.session import open_kernel
from kipper.server.snapshots import BestKeeper
from kipper.server.workdir import Workdir

# The evaluator gives up a snapshot that has waited so long for an actor.
_PATIENCE_SECONDS = 120.0


def run_on_ray(
    settings: RunSettings, stop: StopRequest | None = None, onlooker: Onlooker | None = None
) -> RunResult:
    """Runs with workers on the nodes of a Ray cluster; arguments as of `coordinate`.

    The first Ctrl-C or SIGTERM ends the run after the step in progress, the second at once. All
    actors end with this process, however it ends.

    Raises:
        UserError: a setting, the data or the cluster cannot be used, or Ray is not installed.
    """
    check_ray()
    set_up_ray(settings.execution.ray_address)
    from kipper.launch.ray import clusters
    from kipper.launch.ray.evaluator import evaluating
    from kipper.launch.ray.joining import Actors, actors_joining, evaluator_joining
    from kipper.launch.ray.placement import room_for

    with claimed_run(settings) as dataset, contextlib.ExitStack() as stack:
        experiment, execution = prepare(settings.compute, dataset), settings.execution
        workdir = Workdir(execution.workdir)
        need = stack.enter_context(clusters.connected(execution))
        actors = Actors(settings, need, workdir.logs if clusters.is_own(execution) else None)
        make_sink = None
        has_place = 0 < execution.fixed_workers < room_for(need, clusters.nodes())
        if len(experiment.validation.labels) > 0 and has_place:
            scoring = functools.partial(
                _scoring, settings, experiment.validation, evaluator_joining(actors)
            )
            make_sink = stack.enter_context(evaluating(scoring))
        return coordinate_here(
            settings, experiment, (), actors_joining(actors), make_sink, stop, onlooker
        )


@contextlib.contextmanager
def _scoring(
    settings: RunSettings,
    validation: Split,
    joining: Callable[[Pool], AbstractContextManager[None]],
    on_progress: Callable[[], None],
) -> Iterator[BestKeeper]:
    """The keeper of the best snapshot, whose scores are computed by the workers that join."""
    pool, kernel = open_kernel(
        settings,
        validation.images.shape[1:],
        links=(),
        row_sets={validation.key: validation.images},
        on_progress=on_progress,
        options=PoolOptions(Policy(patience_seconds=_PATIENCE_SECONDS), elastic=True),
    )
    try:
        with joining(pool):
            yield best_keeper(settings, kernel, validation)
    finally:
        pool.close()


def check_ray() -> None:
    """Checks that Ray is installed.

    Raises:
        UserError: it is not.
    """
    if not is_installed("ray"):
        raise UserError(
            f"--launch=ray needs Ray, which is not installed: {INSTALL_SERVICE}; on a cluster, "
            "take the version that the cluster has."
        )


def set_up_ray(address: str) -> None:
    """Sets variables that Ray reads when it is imported.

    Args:
        address: value of --ray_address.
    """
    # Ray prints nothing of its own on the terminal. That a worker died, say, is in kipper's log.
    wanted = {"RAY_DEDUP_LOGS_SKIP_REGEX": ".", "RAY_USAGE_STATS_ENABLED": "0"}
    # A process that has lost its cluster would otherwise connect to any other that it finds.
    wanted["RAY_ENABLE_AUTO_CONNECT"] = "0"
    if address == LOCAL_RAY:
        # As on those systems, it listens on the loopback address alone.
        wanted["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    else:
        # A minute after the head node fell silent Ray would end this process in the middle of its
        # work, before `lifelines.py` can end the run properly.
        wanted["RAY_gcs_rpc_server_reconnect_timeout_s"] = "600"
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
