"""`kipper distill` and `kipper solve_labels`: a run, with its progress and outcome as text."""

import dataclasses

from kipper.common.errors import Interrupted, UserError
from kipper.common.settings import (
    ComputeSettings,
    DistillSettings,
    DryRunSettings,
    EstimateSettings,
    RunSettings,
)
from kipper.launch.commands.display import showing_progress
from kipper.launch.run import run
from kipper.server.algorithms import algorithm_of
from kipper.server.algorithms.algorithm import Algorithm
from kipper.server.checkpoint import steps_in
from kipper.server.confirmations import about_liars
from kipper.server.distilled_set import read_set
from kipper.server.records import RunResult
from kipper.server.snapshots import best_before
from kipper.server.status import read_status
from kipper.server.workdir import Workdir


def run_with_display(dry_run: DryRunSettings, settings: RunSettings) -> None:
    """Runs `settings`, shows the progress and prints a summary; a dry run prints an estimate."""
    if of_recipe := recipe_in_flags(settings.compute):
        print(of_recipe)
    if dry_run.dry_run:
        from kipper.launch.commands.estimate import print_estimate

        print_estimate(EstimateSettings(), settings)
        return
    settings.check()
    workdir = Workdir(settings.execution.workdir)
    workdir.check_free()  # before the progress of another command's run is shown
    finished = _finished_before(settings, workdir)
    if finished is not None:
        print(f"The run in {workdir.path} is finished already; nothing was computed.")
        print(summary(workdir, finished))
        return
    try:
        with showing_progress(workdir):
            result = run(settings)
    except Interrupted as error:
        raise Interrupted(f"{error}{what_there_is(workdir, settings)}") from error
    print(summary(workdir, result))


def recipe_in_flags(compute: ComputeSettings) -> str:
    """The flags that the recipe stands for, as in force; empty if they are all defaults."""
    expansion = compute.expansion(vars(compute))
    defaults = {field.name: field.default for field in dataclasses.fields(compute)}
    if not isinstance(compute, DistillSettings) or expansion.items() <= defaults.items():
        return ""
    flags = " ".join(f"--{name}={getattr(compute, name)}" for name in expansion)
    return f"recipe {compute.recipe}: {flags}"


def _finished_before(settings: RunSettings, workdir: Workdir) -> RunResult | None:
    """The result of the requested run if it has finished and its files are whole; else None.

    Raises:
        UserError: the folder holds another run.
    """
    algorithm, status = algorithm_of(settings.compute), read_status(workdir.status)
    if settings.execution.overwrite or status.state != "finished":
        return None
    found = workdir.read_result()
    if found is None or not algorithm.is_end(found) or found.test is None:
        return None
    try:
        sets = [workdir.distilled, *([workdir.best] if workdir.validations() else [])]
        known = {read_set(path).made for path in sets}
    except UserError:
        return None
    whole = workdir.report.exists() and None not in known and found.natural is not None
    if not whole or len(workdir.evaluations()) != len(workdir.read_records(workdir.spectrum)):
        return None
    from kipper.launch.coordinator import check_settings

    _, data_hash = check_settings(settings)
    workdir.check(settings, data_hash)
    return found


def what_there_is(workdir: Workdir, settings: RunSettings) -> str:
    """What an interrupted run leaves for use, as the end of a message."""
    if not workdir.distilled.exists():
        return f" {_what_a_set_waits_for(workdir, algorithm_of(settings.compute))}"
    said = [f"{workdir.distilled} is the set so far"]
    best = best_before(workdir.validations())
    if best is not None and workdir.best.exists():
        said.append(f"{workdir.best}, of step {best.step}, does best on images held out")
    if workdir.report.exists():
        said.append(f"{workdir.report} shows it")
    return f" {'; '.join(said)}."


def _what_a_set_waits_for(workdir: Workdir, algorithm: Algorithm) -> str:
    if algorithm.steps is not None:
        return "There is no distilled set yet, since no step was made."
    summed = max(steps_in(workdir.checkpoints), default=0)
    kept = f"those over {summed:,} are in {workdir.checkpoints}" if summed else "none were finished"
    return (
        "There is no distilled set before the end, since labels are solved for once the sums over "
        f"all target images are complete; {kept}."
    )


def summary(workdir: Workdir, result: RunResult) -> str:
    """The outcome of a run, in a few lines."""
    account, test, natural = result.account, result.test, result.natural
    assert test is not None
    assert natural is not None
    confirmed = f"{confirmation(result)}\n" if confirmation(result) else ""
    stopped = f"stopped at a plateau, after {result.steps:,} steps\n" if result.stopped else ""
    best = ""
    if result.earlier_best is not None:
        best = (
            f"best set      {workdir.best}, of step {result.best_step:,} by images held out: test "
            f"{result.earlier_best.words}\n"
        )
    return (
        f"test {test.measure.title} {natural.amount} (natural images, natural labels) -> "
        f"{test.amount} (distilled)\n"
        f"{account.kernel_pairs:,} kernel pairs in {account.seconds:.0f} s by "
        f"{account.engine} ({account.pairs_per_second:,} a second)\n"
        f"{confirmed}{stopped}"
        f"distilled set {workdir.distilled}\n"
        f"{best}"
        f"pictures      {workdir.figures}\n"
        f"report        {workdir.report}"
    )


def confirmation(result: RunResult) -> str:
    """What verification found about the workers, in a line; empty if it found nothing."""
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
