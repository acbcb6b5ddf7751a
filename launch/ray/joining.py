"""Opens a run to actors of Ray, and to workers of other kinds if its settings have a port."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import ray
from ray.actor import ActorHandle

from kipper.common.settings import RunSettings
from kipper.launch.link.chaos import with_faults
from kipper.launch.link.joining import connecting, host_of
from kipper.launch.link.registry import open_registry
from kipper.launch.link.remote_link import RemoteLink
from kipper.launch.link.transports import transport_named
from kipper.launch.ray import clusters
from kipper.launch.ray.actor import ActorPlan, WorkerActor
from kipper.launch.ray.keepers import Keepers
from kipper.launch.ray.lifelines import watched
from kipper.launch.ray.placement import Resources, room_for, why_waiting
from kipper.server.pool import Pool
from kipper.server.protocol import WorkerLink

# Calls that an actor answers at once. Those of blocks wait for each other in the worker, and the
# scheduler gives it only a few, so that a `Cancel` and a sign of life always find a thread.
_AT_ONCE = 16

Joining = Callable[[Pool], AbstractContextManager[None]]


@dataclasses.dataclass(frozen=True)
class Actors:
    """How the actors of a run are made.

    Attributes:
        settings: the settings of the run.
        need: what each takes.
        logs: the folder of their logs, if they run on this machine; else they log to Ray's files.
    """

    settings: RunSettings
    need: Resources
    logs: pathlib.Path | None

    def make(self, name: str) -> ActorHandle:
        """An actor for the worker of that name, which Ray places when and where it can."""
        execution = self.settings.execution
        options = ray.remote(WorkerActor).options(
            num_cpus=self.need.cpus,
            num_gpus=self.need.gpus,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=_AT_ONCE,
            scheduling_strategy="SPREAD",
        )
        return options.remote(
            ActorPlan(
                worker=name,
                run=execution.run_name,
                threads=int(self.need.cpus),
                has_gpu=self.need.gpus > 0,
                architecture=self.settings.compute.own_networks,
                chaos=execution.chaos,
                log_format=execution.log_format,
                log=str(self.logs / f"{name}.log") if self.logs is not None else None,
            )
        )

    def wanted(self) -> int:
        """The number of workers that there should be now."""
        number = self.settings.execution.num_workers
        return room_for(self.need, clusters.nodes()) if number == "all" else number

    def why_waiting(self, number: int, total: int) -> str:
        """Like `placement.why_waiting`, with the cluster as it is now."""
        return why_waiting(number, total, self.need, clusters.nodes(), clusters.free())


def actors_joining(actors: Actors) -> Joining:
    """A context manager of a pool, in which an actor for each worker joins the pool."""
    execution = actors.settings.execution

    @contextlib.contextmanager
    def joining(pool: Pool) -> Iterator[None]:
        keepers = Keepers(actors.make, actors.wanted, actors.why_waiting, pool.fail)
        transport = None
        if execution.port is not None:
            transport = transport_named(execution.transport, execution.certificates)

        def connect(name: str, address: str) -> WorkerLink:
            channel = keepers.channel(name)
            if channel is None:
                assert transport is not None
                return connecting(execution, transport)(name, address)
            link = RemoteLink(name, channel, host_of(address))
            return with_faults(link, execution.faults, execution.fixed_workers)

        with (
            open_registry(pool, connect, transport, execution.port or 0) as registry,
            keepers.keeping("worker-", registry),
            watched(clusters.lifelines_of(execution), pool.fail),
        ):
            yield

    return joining


def evaluator_joining(actors: Actors) -> Joining:
    """The same with one actor, the evaluator, which suffers no chaos."""
    settings = actors.settings.replace(chaos=None)
    evaluator = dataclasses.replace(actors, settings=settings)

    @contextlib.contextmanager
    def joining(pool: Pool) -> Iterator[None]:
        keepers = Keepers(evaluator.make, lambda: 1, evaluator.why_waiting, pool.fail)

        def connect(name: str, address: str) -> WorkerLink:
            channel = keepers.channel(name)
            assert channel is not None
            return RemoteLink(name, channel, host_of(address))

        with (
            open_registry(pool, connect) as registry,
            keepers.keeping("evaluator-", registry),
        ):
            yield

    return joining
