"""Starts a run in this process, on Ray or under Launchpad."""

from kipper.common import logs
from kipper.common.settings import RunSettings
from kipper.launch.processes.process import die_with_supervisor
from kipper.launch.processes.stopping import StopRequest
from kipper.server.records import Onlooker, RunResult
from kipper.server.workdir import Workdir


def run(
    settings: RunSettings, stop: StopRequest | None = None, onlooker: Onlooker | None = None
) -> RunResult:
    """Runs `settings` and returns the result; raises a KipperError that says what went wrong.

    `stop` ends the run and `onlooker` sees its evaluations, unless Launchpad carries it out.
    """
    die_with_supervisor()
    settings.check()
    # Before JAX is imported and data are read. The process that prepares the folder claims it.
    Workdir(settings.execution.workdir).check_free()
    with logs.about(run=settings.execution.run_name):
        if settings.execution.launch == "inprocess":
            from kipper.launch.coordinator import run_inprocess

            return run_inprocess(settings, stop, onlooker)
        if settings.execution.launch == "ray":
            from kipper.launch.ray_run import run_on_ray

            return run_on_ray(settings, stop, onlooker)
        from kipper.launch.local_program import run_local_program

        return run_local_program(settings)
