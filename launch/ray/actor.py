"""What runs in the process of an actor: a worker's service, which takes and returns bytes.

Ray imports this module on the actor's node, so the kipper that is installed there computes.
"""

import contextlib
import dataclasses
import os
import sys
import uuid

import ray

from kipper.common import logs, messages, wire
from kipper.common.chaos import parse_chaos
from kipper.common.errors import UserError
from kipper.common.lazy_imports import import_without_collection
from kipper.common.messages import Failure, Hello
from kipper.common.network_file import with_hashes
from kipper.launch.link.chaos import attack_this_process
from kipper.launch.processes.devices import check_gpu


@dataclasses.dataclass(frozen=True)
class ActorPlan:
    """The arguments of an actor.

    Attributes:
        worker: its name.
        run: the run's name, for its log.
        threads: as for `Worker`.
        architecture: files of the run's own networks, comma-separated, or None.
        chaos: as `parse_chaos` takes it, or None.
        has_gpu: whether Ray gives it one.
        log_format: the format of its log.
        log: the log's path; None for its stderr, which Ray keeps in a file.
    """

    worker: str
    run: str
    threads: int
    architecture: str | None
    chaos: str | None
    log_format: str
    has_gpu: bool = False
    log: str | None = None


class WorkerActor:
    """A worker behind Ray; its messages are bytes of `wire.py`."""

    def __init__(self, plan: ActorPlan):
        # After Ray has said which GPUs this process may use.
        import_without_collection("jax")
        from kipper.workers.service import WorkerService

        self._plan = plan
        self._incarnation = uuid.uuid4().hex
        self._refusal: str | None = None
        if plan.log is not None:
            _write_stderr_to(plan.log)
        logs.start(plan.log_format)
        self._service = WorkerService(plan.threads)
        try:
            with_hashes(plan.architecture or "")  # this process may run these from now on
            if plan.has_gpu:
                check_gpu()
        except UserError as error:
            self._refusal = str(error)
        if plan.chaos is not None:
            attack_this_process(parse_chaos(plan.chaos))

    def hello(self) -> bytes:
        """This process's `Hello`, or a `Failure` that says why it cannot take part."""
        if self._refusal is not None:
            return wire.encode(Failure(messages.REFUSED, self._refusal))
        address = f"{ray.util.get_node_ip_address()}:1"  # no port is listened on
        version = messages.PROTOCOL_VERSION
        return wire.encode(Hello(version, self._plan.worker, self._incarnation, address))

    def beat(self) -> None:
        """Returns at once: the process lives."""

    def handle(self, request: bytes) -> bytes:
        """Like `WorkerService.handle`."""
        with logs.about(run=self._plan.run, worker=self._plan.worker):
            return self._service.handle(request)


def _write_stderr_to(path: str) -> None:
    """Appends to a file what this process and its libraries write to stderr from now on."""
    with contextlib.suppress(OSError), open(path, "ab") as file:  # a run goes on without a log
        os.dup2(file.fileno(), sys.stderr.fileno())
