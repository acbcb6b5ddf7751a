"""A run by any of the three launches, with a live line on a terminal and plain lines in a pipe."""

from typing import Any

from kipper.common import logs
from kipper.common.settings import DryRunSettings, EstimateSettings, RunSettings
from kipper.launch.display import showing_progress
from kipper.server.figures.measures import ACCURACY, measure_of
from kipper.server.workdir import Workdir


def run(settings: RunSettings) -> dict[str, Any]:
    """Carries out `settings`; returns what result.json holds.

    Raises:
        KipperError: one sentence says what was wrong.
    """
    with logs.about(run=settings.run_name):
        if settings.launch == "inprocess":
            from kipper.launch.coordinator import run_inprocess

            return run_inprocess(settings)
        from kipper.launch.local_program import run_local_program

        return run_local_program(settings)


def run_with_display(settings: RunSettings, asked: DryRunSettings) -> None:
    """Carries out `settings` and tells a person how it goes and what came of it.

    A dry run says what it would take instead.
    """
    if asked.dry_run:
        from kipper.launch.estimate import print_estimate

        print_estimate(EstimateSettings(), settings)
        return
    settings.check()
    workdir = Workdir(settings.workdir)
    with showing_progress(workdir):
        result = run(settings)
    print(summary(workdir, result))


def summary(workdir: Workdir, result: dict[str, Any]) -> str:
    """What came of a run, in a few lines for a person."""
    measure = measure_of(result)
    name = "accuracy" if measure is ACCURACY else measure.name
    return (
        f"test {name} {result[f'natural_{measure.key}']:.4f} (natural images, natural labels) -> "
        f"{result[f'test_{measure.key}']:.4f} (distilled)\n"
        f"{result['kernel_pairs']:,} kernel pairs in {result['seconds']:.0f} s by "
        f"{result['engine']} ({result['pairs_per_second']:,} a second)\n"
        f"distilled set {workdir.distilled}\n"
        f"pictures      {workdir.figures}\n"
        f"report        {workdir.report}"
    )
