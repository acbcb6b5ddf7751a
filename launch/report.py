"""`kipper report`: the figures and report.html of a run, made again of its files."""

import dataclasses
import pathlib
from typing import Any

from kipper.common.errors import KipperError, UserError
from kipper.common.settings import DistillSettings, ReportSettings, SolveLabelsSettings
from kipper.launch import flag_sets
from kipper.server.report.run_files import RunFiles, read_run
from kipper.server.report.writing import write_report

_COMMANDS: dict[str, tuple[str, type[Any]]] = {
    "DistillSettings": ("distill", DistillSettings),
    "SolveLabelsSettings": ("solve_labels", SolveLabelsSettings),
}


def print_report(settings: ReportSettings) -> None:
    """Writes the report of a run, finished or not, and says where it is.

    Raises:
        UserError: there is no run in the folder, or the folder cannot be written.
        KipperError: a figure could not be drawn; the others were.
    """
    settings.check()
    run = read_run(settings.run)
    try:
        failed = write_report(run, command_of(run))
    except OSError as error:
        raise UserError(f"{settings.run} cannot be written ({error.strerror}).") from error
    print(f"report   {run.workdir.report}")
    for figure in sorted(run.workdir.figures.glob("*.png")):
        print(f"figure   {figure}")
    if failed:
        raise KipperError(f"Of the figures, {', '.join(failed)} could not be drawn.")


def report_run(folder: pathlib.Path) -> list[str]:
    """Writes the report of the run in `folder`; returns the figures that could not be drawn.

    Raises:
        UserError: there is no run in the folder.
        OSError: a file cannot be written.
    """
    run = read_run(folder)
    return write_report(run, command_of(run))


def command_of(run: RunFiles) -> list[str]:
    """The words of a command line that does the run again.

    Raises:
        UserError: it is a run of an algorithm that this version does not have.
    """
    if run.command not in _COMMANDS:
        raise UserError(f"{run.workdir.config} is of {run.command!r}, which is not known here.")
    name, cls = _COMMANDS[run.command]
    known = {field.name for field in dataclasses.fields(cls)} - {"overwrite"}
    settings = cls(**{field: value for field, value in run.settings.items() if field in known})
    return ["kipper", name, *flag_sets.arguments_of(settings)]
