"""A run by any of the three launches."""

from kipper.common import logs
from kipper.common.settings import RunSettings
from kipper.server.records import RunResult


def run(settings: RunSettings) -> RunResult:
    """Carries out `settings`; returns its result.

    Raises:
        KipperError: one sentence says what was wrong.
    """
    with logs.about(run=settings.execution.run_name):
        if settings.execution.launch == "inprocess":
            from kipper.launch.coordinator import run_inprocess

            return run_inprocess(settings)
        from kipper.launch.local_program import run_local_program

        return run_local_program(settings)
