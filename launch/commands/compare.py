"""`kipper compare`: accuracy against the number of support images, over several runs."""

import pathlib
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from kipper.common.errors import UserError
from kipper.common.files import write_bytes, written_for
from kipper.common.settings import CompareSettings
from kipper.common.strict_json import json_text
from kipper.launch.commands.display import print_table
from kipper.server.figures import style
from kipper.server.figures.support_sizes import SizedScore, support_sizes_figure
from kipper.server.measures import Measure
from kipper.server.report.run_files import RunFiles, read_run

_TRAITS = ("dataset", "preprocess", "kernel", "algorithm")
HEADS = ("run", *_TRAITS, "images", "test", "natural", "steps")
_TEXT_COLUMNS = 5


def print_comparison(settings: CompareSettings) -> None:
    """Prints a table of the runs and draws their scores.

    Raises:
        UserError: see `read_comparable`; or the figure cannot be written.
    """
    settings.check()
    runs, measure = read_comparable(settings.runs)
    if not settings.json:
        _print_table(runs)
    path = pathlib.Path(settings.output)
    png = style.png(figure_of(runs, measure))
    with written_for(f"--output={path}", path):
        write_bytes(path, png)
    if settings.json:
        print(json_text({"runs": [_record(run) for run in runs], "figure": str(path)}))
    else:
        print(f"\nfigure   {path}")


def read_comparable(folders: Sequence[str]) -> tuple[list[RunFiles], Measure]:
    """The runs in folders, sorted by traits and size, and the measure of their scores.

    Raises:
        UserError: a folder holds no run or one without a score, or the measures differ.
    """
    runs = [read_run(folder) for folder in folders]
    for run in runs:
        if run.test is None:
            raise UserError(
                f"{run.workdir.path} has no score yet; wait for the run's first evaluation, or "
                "leave it out."
            )
    measures = {run.measure for run in runs}
    if len(measures) > 1:
        raise UserError("Runs on classes and runs on real-valued targets cannot be compared.")
    (measure,) = measures
    runs.sort(key=lambda run: (_traits(run), _size(run)))  # stable
    return runs, measure


def figure_of(runs: Sequence[RunFiles], measure: Measure) -> Figure:
    """The scores of runs against their numbers of support images."""
    shared, scores = sized_scores(runs)
    return support_sizes_figure(scores, measure, shared)


def _record(run: RunFiles) -> dict[str, Any]:
    """A run for JSON."""
    named = zip(_TRAITS, _traits(run), strict=True)
    scores = {"test": run.test, "natural": run.natural}
    return {
        "run": str(run.workdir.path),
        **dict(named),
        "support_size": _size(run),
        **{k: v for part, each in scores.items() if each for k, v in each.record(part).items()},
        "steps": run.step or 0,
        "finished": run.result is not None,
    }


def _size(run: RunFiles) -> int:
    return run.algorithm.settings.support_size


def _traits(run: RunFiles) -> tuple[str, str, str, str]:
    """Data set, preprocessing, kernel and algorithm: a line joins runs that share all four."""
    settings = run.algorithm.settings
    kernel = run.architecture + ("" if settings.kernel == "ntk" else f" {settings.kernel}")
    return run.dataset, settings.preprocess, kernel, run.algorithm.title


def sized_scores(runs: Sequence[RunFiles]) -> tuple[str, list[SizedScore]]:
    """The traits that all runs share, and the scores, named by the traits that differ."""
    traits = [_traits(run) for run in runs]
    differ = [len(set(values)) > 1 for values in zip(*traits, strict=True)]
    scores = []
    for run, own in zip(runs, traits, strict=True):
        assert run.test is not None
        named = [trait for trait, differs in zip(own, differ, strict=True) if differs]
        data = (
            named[:-1] if differ[-1] else named
        )  # the score of natural images does not depend on it
        scores.append(
            SizedScore(
                line=", ".join(named) or own[-1],
                baseline=", ".join(data),
                support_size=_size(run),
                score=run.test.shown,
                natural=run.natural.shown if run.natural is not None else None,
            )
        )
    shared = [trait for trait, differs in zip(traits[0], differ, strict=True) if not differs]
    return ", ".join(shared), scores


def _print_table(runs: Sequence[RunFiles]) -> None:
    print_table(HEADS, rows_of(runs), _TEXT_COLUMNS)


def rows_of(runs: Sequence[RunFiles]) -> list[tuple[str, ...]]:
    """The cells of a table of runs, under `HEADS`."""
    rows = []
    for run in runs:
        scores = run.test, run.natural
        steps = f"{run.step or 0:,}"
        rows.append(
            (
                str(run.workdir.path),
                *_traits(run),
                f"{_size(run):,}",
                *("" if score is None else score.amount for score in scores),
                steps if run.result is not None else f"{steps} so far",
            )
        )
    return rows
