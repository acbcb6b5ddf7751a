"""`kipper distill` and `kipper solve_labels`: a run, with its progress and outcome as text."""

from kipper.common.settings import DryRunSettings, EstimateSettings, RunSettings
from kipper.launch.commands.display import showing_progress
from kipper.launch.run import run
from kipper.server.confirmations import about_liars
from kipper.server.measures import ACCURACY
from kipper.server.records import RunResult
from kipper.server.workdir import Workdir


def run_with_display(dry_run: DryRunSettings, settings: RunSettings) -> None:
    """Runs `settings`, shows the progress and prints a summary; a dry run prints an estimate."""
    if dry_run.dry_run:
        from kipper.launch.commands.estimate import print_estimate

        print_estimate(EstimateSettings(), settings)
        return
    settings.check()
    workdir = Workdir(settings.execution.workdir)
    with showing_progress(workdir):
        result = run(settings)
    print(summary(workdir, result))


def summary(workdir: Workdir, result: RunResult) -> str:
    """The outcome of a run, in a few lines."""
    account, test, natural = result.account, result.test, result.natural
    assert test is not None
    assert natural is not None
    name = "accuracy" if test.measure is ACCURACY else test.measure.name
    confirmed = f"{confirmation(result)}\n" if confirmation(result) else ""
    return (
        f"test {name} {natural.value:.4f} (natural images, natural labels) -> "
        f"{test.value:.4f} (distilled)\n"
        f"{account.kernel_pairs:,} kernel pairs in {account.seconds:.0f} s by "
        f"{account.engine} ({account.pairs_per_second:,} a second)\n"
        f"{confirmed}"
        f"distilled set {workdir.distilled}\n"
        f"pictures      {workdir.figures}\n"
        f"report        {workdir.report}"
    )


def confirmation(result: RunResult) -> str:
    """What is known of the workers' honesty, in a line; nothing if nothing was found."""
    said = []
    if result.confirmed_blocks:
        assert result.used_blocks is not None
        said.append(
            f"{result.confirmed_blocks:,} of {result.used_blocks:,} blocks confirmed by a second "
            "worker"
        )
    if result.liars:
        # Label Solve makes no steps.
        said.append(about_liars(result.liars, "step" if result.steps else "target image"))
    return "; ".join(said)
