"""`kipper transfer`: trains finite networks on a distilled set and tests them."""

import dataclasses
import pathlib
import statistics
from typing import Any

from kipper.common.errors import Interrupted, TemporaryError, WriteError
from kipper.common.files import write_bytes, write_json, write_text, written_for
from kipper.common.numbers import percent
from kipper.common.settings import TransferSettings
from kipper.common.strict_json import json_text
from kipper.launch.commands.display import print_record
from kipper.launch.commands.transfer.all_kernels import evaluate_all_kernels, title
from kipper.launch.commands.transfer.data import (
    RegressionAccuracy,
    TransferData,
    read_data,
    regression_accuracy,
)
from kipper.launch.commands.transfer.trial import (
    NetworkResult,
    NetworkTrial,
    Say,
    say_on_stderr,
)
from kipper.launch.commands.transfer.unfinished import (
    Finished,
    experiment,
    forget_finished,
    read_finished,
    write_finished,
)
from kipper.server.distilled_set import set_file
from kipper.server.figures.kernels import kernels_figure
from kipper.server.figures.style import png
from kipper.server.figures.transfer import transfer_figure


def print_transfer(settings: TransferSettings) -> None:
    """Prints the result: a table on a terminal, else JSON; progress goes to stderr."""
    try:
        report = all_kernels(settings) if settings.all_kernels else transfer(settings)
    except KeyboardInterrupt:
        raise Interrupted("Interrupted; no result was written.") from None
    except WriteError as error:
        raise TemporaryError(
            f"{error} The networks that were finished before are kept; once that is mended, the "
            "same command resumes."
        ) from error
    print_record(report, settings.json)


def transfer(settings: TransferSettings, say: Say = say_on_stderr) -> dict[str, Any]:
    """Trains networks with seeds from 0 and tests them; returns the content of transfer.json.

    Writes transfer_curve.jsonl, figures/transfer.png and, last, transfer.json. Finished networks
    are kept until then, so that the same call resumes after an interruption.

    Raises:
        UserError: a file or a setting cannot be used, or they do not fit each other.
        NumericalError: a network's training diverged.
        Interrupted: the user pressed Ctrl-C.
    """
    settings.check()
    file, subject = read_data(settings)
    trial = NetworkTrial(settings, subject, say)
    folder = _output_folder(settings)
    say("kernel regression, for comparison …")
    regression = regression_accuracy(file, subject.test)
    say(f"kernel regression: test {percent(regression.test_accuracy)} ({title(regression)})")
    networks, curve = _trained(trial, settings, subject, folder, say)
    pace = trial.seconds_per_step
    report = {
        **_summary(networks, regression),
        **_conditions(settings, subject, file.run.compute.dataset),
        "seconds": round(sum(network.seconds for network in networks), 1),
        "milliseconds_per_step": None if pace is None else round(1000 * pace, 2),
    }
    records = [dataclasses.asdict(point) for point in curve]
    lines = [json_text(record) + "\n" for record in records]
    write_text(folder / "transfer_curve.jsonl", "".join(lines))
    picture = folder / "figures" / "transfer.png"
    write_bytes(picture, png(transfer_figure(report, records)))
    write_json(folder / "transfer.json", report)
    forget_finished(folder)
    say(f"picture {picture}")
    return report


def _trained(
    trial: NetworkTrial,
    settings: TransferSettings,
    subject: TransferData,
    folder: pathlib.Path,
    say: Say,
) -> Finished:
    """Networks with all seeds, including those that an earlier call finished."""
    this = experiment(settings, subject)
    networks, curve = read_finished(folder, this)
    networks = networks[: settings.seeds]
    if networks:
        say(f"{len(networks)} of {settings.seeds} networks are already finished")
    for seed in range(len(networks), settings.seeds):
        try:
            network, points = trial.run(seed)
        except KeyboardInterrupt:
            raise Interrupted(_on_interruption(len(networks), settings.seeds)) from None
        networks, curve = [*networks, network], [*curve, *points]
        write_finished(folder, this, Finished(networks, curve))
    return Finished(networks, [point for point in curve if point.seed < settings.seeds])


def _on_interruption(finished: int, seeds: int) -> str:
    if not finished:
        return "Interrupted; no network was finished."
    return f"Interrupted after {finished} of {seeds} networks; the same command resumes."


def all_kernels(settings: TransferSettings, say: Say = say_on_stderr) -> dict[str, Any]:
    """Evaluates the set with many kernels; returns the content of all_kernels.json.

    Writes figures/all_kernels.png and, last, all_kernels.json.

    Raises:
        UserError: a file or a setting cannot be used, or they do not fit each other.
    """
    settings.check()
    report = evaluate_all_kernels(settings, say)
    folder = _output_folder(settings)
    picture = folder / "figures" / "all_kernels.png"
    write_bytes(picture, png(kernels_figure(report)))
    write_json(folder / "all_kernels.json", report)
    say(f"picture {picture}")
    return report


def _summary(networks: list[NetworkResult], regression: RegressionAccuracy) -> dict[str, Any]:
    accuracies = [network.test_accuracy for network in networks]
    mean = statistics.fmean(accuracies)
    return {
        "test_accuracy": mean,
        "test_accuracy_spread": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "kernel_regression": dataclasses.asdict(regression),
        "change": mean - regression.test_accuracy,
        "networks": [dataclasses.asdict(network) for network in networks],
    }


def _conditions(settings: TransferSettings, subject: TransferData, dataset: str) -> dict[str, Any]:
    names = ("width", "loss", "steps", "batch_size", "l2", "max_lr_factor", "seeds")
    return {
        "distilled": settings.distilled,
        "dataset": dataset,
        "architecture": subject.architecture.title,
        **{name: getattr(settings, name) for name in names},
        "support_size": len(subject.images),
        "test_size": len(subject.test.labels),
        "curve_test_size": len(subject.curve_rows),
        "curve_validation_size": len(subject.validation.labels),
    }


def _output_folder(settings: TransferSettings) -> pathlib.Path:
    """The folder for results, with its `figures`.

    Raises:
        UserError: it cannot be made.
    """
    folder = pathlib.Path(settings.output or set_file(pathlib.Path(settings.distilled)).parent)
    with written_for(f"The folder {folder}", folder, "; give another --output"):
        (folder / "figures").mkdir(parents=True, exist_ok=True)
    return folder
