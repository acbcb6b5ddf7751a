"""`kipper distill` and `kipper solve_labels`: a run, with its progress and its outcome in text."""

from typing import Any

from kipper.common.settings import DryRunSettings, EstimateSettings, RunSettings
from kipper.launch.commands.display import showing_progress
from kipper.launch.run import run
from kipper.server.figures.measures import ACCURACY, measure_of
from kipper.server.workdir import Workdir


def run_with_display(settings: RunSettings, asked: DryRunSettings) -> None:
    """Runs `settings`, shows the progress and prints a summary; a dry run prints an estimate."""
    if asked.dry_run:
        from kipper.launch.commands.estimate import print_estimate

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
