"""Writes a run's figures and its report, from its files alone."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import logging

from kipper.common.errors import KipperError, UserError
from kipper.common.files import write_bytes, write_text
from kipper.common.settings import DistillSettings, SolveLabelsSettings, arguments_of
from kipper.server.figures import style
from kipper.server.report.drawing import figures_of
from kipper.server.report.events import read_activity
from kipper.server.report.page import render
from kipper.server.report.run_files import RunFiles, SupportFiles, read_run, read_support

_COMMANDS: dict[str, tuple[str, type[Any]]] = {
    "DistillSettings": ("distill", DistillSettings),
    "SolveLabelsSettings": ("solve_labels", SolveLabelsSettings),
}


def write_report(run: RunFiles, command: Sequence[str]) -> list[str]:
    """Writes figures/*.png and report.html.

    Args:
        run: what to tell of.
        command: the words of the command line that started it.

    Returns:
        Names of the figures that could not be drawn; why, is logged as a warning.

    Raises:
        OSError: a file cannot be written.
    """
    workdir = run.workdir
    activity = read_activity(workdir.logs / "events.jsonl")
    failed: list[str] = []
    pictures: dict[str, bytes] = {}
    for name, draw in figures_of(run, _support(run), activity).items():
        try:
            pictures[name] = style.png(draw())
        except Exception as error:
            # Of whatever kind: a picture may never cost a run its end, nor the other pictures.
            logging.warning("figures/%s.png could not be drawn: %r", name, error)
            failed.append(name)
    workdir.figures.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        write_bytes(workdir.figures / f"{name}.png", picture)
    write_text(workdir.report, render(run, command, pictures, activity))
    return failed


def _support(run: RunFiles) -> SupportFiles | None:
    try:
        return read_support(run)
    except KipperError as error:
        logging.warning("There are no pictures of images: %s", error)
        return None


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
    return ["kipper", name, *arguments_of(settings)]
