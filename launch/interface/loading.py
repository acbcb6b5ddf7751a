"""`kipper.load`: results from the files of runs, finished or not."""

import dataclasses
import os
import pathlib

from kipper.common.datasets import Dataset
from kipper.common.errors import UserError
from kipper.launch.interface.folder import RunFolder, as_path
from kipper.launch.interface.result import Result
from kipper.server import checkpoint
from kipper.server.distilled_set import (
    DistilledSet,
    MadeSet,
    load_recipe,
    read_set,
    save_distilled,
    save_recipe,
    set_key,
)
from kipper.server.learned_set import LearnedSet
from kipper.server.report.run_files import RunFiles, read_run
from kipper.server.snapshots import SupportSnapshot
from kipper.server.workdir import Workdir


def load(path: str | os.PathLike[str]) -> Result:
    """Reads a result from files.

    Args:
        path: the folder of a run, or a distilled.npz, best.npz or file released with the KIP paper.
            For a run that was stopped, the newest checkpoint is read.

    Raises:
        UserError: there is no set, or it cannot be read.
    """
    target = as_path(path, "path")
    if not target.is_dir():
        folder = RunFolder(target.parent)
        is_of_run = Workdir(target.parent).config.exists()
        return Result(read_set(target), folder, read_run(target.parent) if is_of_run else None)
    return result_in(RunFolder(target))


def result_in(
    folder: RunFolder, held: Dataset | None = None, last: SupportSnapshot | None = None
) -> Result:
    """The result of the run in a folder.

    Args:
        folder: the folder of the run.
        held: its data, if they are arrays in memory.
        last: the set to take if the run is not finished; None for that of the newest checkpoint.

    Raises:
        UserError: there is no run, or it has no set yet.
    """
    workdir = Workdir(folder.path)
    if not workdir.config.exists() and workdir.distilled.exists():
        return Result(read_set(workdir.distilled), folder, held=held)
    run = read_run(folder.path)
    if run.result is not None and workdir.distilled.exists():
        return Result(read_set(workdir.distilled), folder, run, held)
    scratch = RunFolder(None)
    found = _unfinished(run, last, scratch.path)
    return Result(found, folder, run, held, scratch)


def _unfinished(run: RunFiles, last: SupportSnapshot | None, scratch: pathlib.Path) -> DistilledSet:
    """Writes the newest set of an unfinished run, with its score if that step was evaluated."""
    workdir = run.workdir
    found: tuple[int, LearnedSet] | None = None
    if last is not None:
        found = last.step, last.support
    elif run.algorithm.learns_images:
        found = checkpoint.support_of(workdir.checkpoints)
    if found is None or not workdir.preprocessing.exists():
        raise UserError(
            f"{workdir.path} holds no distilled set yet: its run is {run.status.state or 'new'}; "
            "let it finish first."
        )
    step, support = found
    scores = {each.step: each.test for each in run.metrics}
    made = MadeSet(set_key(*support), step, scores.get(step))
    recipe = dataclasses.replace(load_recipe(workdir.preprocessing), sets=(made,))
    save_recipe(scratch / "preprocessing.npz", recipe)
    save_distilled(scratch / "distilled.npz", support)
    return read_set(scratch / "distilled.npz")
