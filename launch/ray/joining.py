"""Opens a run to actors of Ray, and to workers of other kinds if the settings have a port."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import ray
from ray.actor import ActorHandle

from kipper.common.settings import RunSettings
from kipper.launch.link.chaos import with_faults
from kipper.launch.link.registry import open_registry
from kipper.launch.link.remote_link import RemoteLink
from kipper.launch.ray.actor import ActorPlan, WorkerActor
from kipper.launch.ray.keepers import Keepers
from kipper.launch.ray.placement import Need
from kipper.server.pool import Pool
from kipper.server.protocol import WorkerLink

# Calls that an actor answers at once. Those of blocks wait for each other in the worker, and the
# scheduler gives it only a few, so that a `Cancel` and a sign of life always find a thread.
_AT_ONCE = 16


def actors_joining(
    settings: RunSettings, need: Need
) -> Callable[[Pool], AbstractContextManager[None]]:
    """A context manager of a pool, in which an actor for each worker joins the pool."""
    execution = settings.execution
    actor_class = ray.remote(WorkerActor).options(
        num_cpus=need.cpus,
        num_gpus=need.gpus,
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=_AT_ONCE,
        scheduling_strategy="SPREAD",
    )

    def make(name: str) -> ActorHandle:
        return actor_class.remote(
            ActorPlan(
                name,
                execution.run_name,
                execution.threads_per_worker,
                settings.compute.own_networks,
                execution.chaos,
                execution.log_format,
            )
        )

    @contextlib.contextmanager
    def joining(pool: Pool) -> Iterator[None]:
        keepers = Keepers(make, pool.fail)

        def connect(name: str, address: str) -> WorkerLink:
            link = RemoteLink(name, keepers.channel(name), address.rpartition(":")[0])
            return with_faults(link, execution.faults, execution.num_workers)

        names = [f"worker-{number}" for number in range(execution.num_workers)]
        with open_registry(pool, connect) as registry, keepers.keeping(names, registry):
            yield

    return joining
