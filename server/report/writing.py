"""Writes the figures and the report of a run, from its files alone."""

import dataclasses
import itertools
import pathlib
import shlex

from absl import logging

from kipper.common.datasets.memory import PREFIX
from kipper.common.errors import KipperError, UserError
from kipper.common.files import write_bytes, write_text
from kipper.common.settings import ExecutionSettings, RunSettings, departures, run_fields
from kipper.server.figures import style
from kipper.server.figures.dark import dark_png
from kipper.server.figures.timeline import Activity
from kipper.server.report.drawing import figures_of
from kipper.server.report.events import read_activity
from kipper.server.report.page import Picture, Repetition, render
from kipper.server.report.run_files import RunFiles, SupportFiles, read_support


def write_report(run: RunFiles) -> list[str]:
    """Writes figures/*.png and report.html of a run.

    Returns:
        Names of the figures that could not be drawn; warnings in the log say why.

    Raises:
        OSError: a file cannot be written.
    """
    workdir = run.workdir
    activity = activity_of(run)
    failed: list[str] = []
    pictures: dict[str, Picture] = {}
    for name, draw in figures_of(run, _support(run), activity).items():
        try:
            figure = draw()
            pictures[name] = Picture(style.png(figure), dark_png(figure))
        except Exception as error:
            # Any error: a figure must not cost a run its end, nor its other figures.
            logging.warning("figures/%s.png could not be drawn: %r", name, error)
            failed.append(name)
    workdir.figures.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        write_bytes(workdir.figures / f"{name}.png", picture.light)
    write_text(workdir.report, render(run, again(run), pictures, activity))
    return failed


def activity_of(run: RunFiles) -> Activity | None:
    """What the run's workers did; None, with a warning, if its log makes no sense."""
    log = run.workdir.logs / "events.jsonl"
    try:
        return read_activity(log, run.status.events or 0)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        logging.warning("The report has no timeline: %s is damaged (%r).", log, error)
        return None


def _support(run: RunFiles) -> SupportFiles | None:
    try:
        return read_support(run)
    except (KipperError, IndexError, TypeError, ValueError) as error:  # of arrays that do not fit
        logging.warning("The report has no pictures of images: %s", error)
        return None


def again(run: RunFiles) -> Repetition:
    """How to repeat a run, in a folder beside its own, which has its results."""
    folder, command = str(_unused(run.workdir.path)), run.algorithm.command
    if not run.algorithm.settings.dataset.startswith(PREFIX):
        words = command_of(run, folder)
        program, flags = shlex.join(words[:2]), words[2:]
        evaluate = shlex.join(["kipper", "evaluate", f"--distilled={run.workdir.distilled}"])
        lines = " \\\n  ".join([program, *map(shlex.quote, flags)])
        return Repetition(lines, "\n".join(flags), evaluate)
    classes = ExecutionSettings, run.algorithm.settings_class
    given = {
        name: value for each in classes for name, value in departures(each, run.settings).items()
    }
    for name in ("dataset", "data_dir", "overwrite"):
        given.pop(name, None)
    values = "".join(f", {k}={v!r}" for k, v in (given | {"workdir": folder}).items())
    evaluate = f"kipper.load({str(run.workdir.path)!r}).evaluate(data)"
    return Repetition(f"kipper.{command}(data{values})", "", evaluate)


def _unused(folder: pathlib.Path) -> pathlib.Path:
    """A folder beside that of a run, for the same run again: the run's own has its results."""
    beside = (folder.with_name(f"{folder.name}_again{n or ''}") for n in itertools.count())
    return next(each for each in beside if not each.exists())


def command_of(run: RunFiles, workdir: str | None = None) -> list[str]:
    """The words of a command line that repeats the run, in its folder or in another.

    Raises:
        UserError: the run's configuration lacks a required setting.
    """
    compute_class = run.algorithm.settings_class
    fields = {field.name: field for field in run_fields(compute_class) if field.name != "overwrite"}
    known = {name: value for name, value in run.settings.items() if name in fields}
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in known:
            raise UserError(f"{run.workdir.config} lacks the setting {name}, so it is damaged.")
    if workdir is not None:
        known["workdir"] = workdir
    return ["kipper", run.algorithm.command, *RunSettings.of(compute_class, **known).arguments()]
