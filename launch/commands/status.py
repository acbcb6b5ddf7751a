"""`kipper status` and `kipper list`: the state of runs, from their files."""

import pathlib
import sys

from kipper.common.errors import UserError
from kipper.common.printable import printable
from kipper.common.settings import ListSettings, StatusSettings
from kipper.common.strict_json import json_text
from kipper.launch.commands.display import print_table
from kipper.launch.commands.run_state import RunState, lines_about, state_of
from kipper.server.workdir import Workdir

# Levels of folders that are searched for runs.
_DEPTH = 3


def print_status(settings: StatusSettings) -> None:
    """Prints the state of a run; raises a UserError if the folder holds none."""
    settings.check()
    state = state_of(settings.run)
    if settings.json:
        print(json_text(state.record()))
        return
    lines = lines_about(state)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:{width}}  {printable(value)}")


def print_list(settings: ListSettings) -> None:
    """Prints a line for each run in a folder or its subfolders.

    Raises:
        UserError: the folder does not exist, or holds no run.
    """
    top = pathlib.Path(settings.folder)
    if not top.is_dir():
        raise UserError(f"There is no folder {top}.")
    folders, found = sorted(run_folders(top)), []
    if not folders:
        raise UserError(f"There is no run in {top} or its subfolders, down to {_DEPTH} levels.")
    for folder in folders:
        try:
            found.append(state_of(folder))
        except UserError as error:  # of another version, or damaged; the others are listed
            print(f"kipper: {printable(f'{folder}: {error}')}", file=sys.stderr)
    if settings.json:
        print(json_text([state.record() for state in found]))
        return
    print_table(("run", "state", "what", "images", "progress", "test"), map(_row, found))


def run_folders(top: pathlib.Path) -> list[pathlib.Path]:
    """Folders of runs at `top` or below; a run's own subfolders are not searched."""
    found, layer = [], [top]
    for _ in range(_DEPTH + 1):
        runs = [folder for folder in layer if Workdir(folder).config.is_file()]
        found += runs
        others = [folder for folder in layer if folder not in runs]
        layer = [inner for folder in others for inner in _folders_in(folder)]
    return found


def _folders_in(folder: pathlib.Path) -> list[pathlib.Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    except OSError:
        return []  # not readable


def _row(state: RunState) -> tuple[str, ...]:
    run = state.run
    return (
        str(run.workdir.path),
        state.state,
        run.title,
        str(run.algorithm.settings.support_size),
        state.progress,
        state.score,
    )
