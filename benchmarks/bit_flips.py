"""Damages files of runs at random, and counts what is refused, reported, harmless or silent.

    python benchmarks/bit_flips.py [--trials=10000] [--minutes=60] [--seed=0]

A trial copies the folder of a run, flips a bit of one of its files (or cuts it, or doubles a line),
and then does in this process what people do with a run: list, status, report, evaluate, resume. The
numbers that they show, and the bits of the final set, are compared with those of the undamaged
folder.
"""

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import io
import logging
import os
import pathlib
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
from absl import logging as absl_logging

from kipper.common.datasets import limit, load_dataset
from kipper.common.errors import KipperError
from kipper.common.files import remove, write_npz
from kipper.common.settings import (
    DistillSettings,
    EvaluateSettings,
    ListSettings,
    RunSettings,
    SolveLabelsSettings,
)
from kipper.launch import coordinator
from kipper.launch.commands.evaluate import print_evaluation
from kipper.launch.commands.run_state import lines_about, state_of
from kipper.launch.commands.status import print_list
from kipper.launch.commands.transfer.trial import CurvePoint, NetworkResult
from kipper.launch.commands.transfer.unfinished import Finished, read_finished, write_finished
from kipper.server.distilled_set import load_distilled, set_key
from kipper.server.report.page import render
from kipper.server.report.run_files import read_run, read_support
from kipper.server.report.writing import activity_of, command_of
from kipper.server.workdir import Workdir

MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None  # where flushing to disk is free
TRANSFER = {"width": 8, "content": "0" * 64}
Actions = dict[str, Callable[[pathlib.Path], str]]


@dataclasses.dataclass(frozen=True)
class Seen:
    """What an action showed, and the words that something is wrong."""

    shown: str
    told: tuple[str, ...]
    refused: bool = False
    crashed: str = ""


class _Told(logging.Handler):
    """Collects kipper's warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def seen(action: Callable[[pathlib.Path], str], folder: pathlib.Path) -> Seen:
    """What an action shows and says about a folder."""
    told, out, err = _Told(), io.StringIO(), io.StringIO()
    logger = absl_logging.get_absl_logger()
    logger.addHandler(told)
    shown, refused, crashed = "", False, ""
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            shown = action(folder)
    except KipperError as error:
        refused = True
        told.messages.append(str(error))
    except Exception:
        crashed = traceback.format_exc()
    finally:
        logger.removeHandler(told)
    remarks = [line for line in err.getvalue().splitlines() if line.startswith("kipper: ")]
    return Seen(shown + out.getvalue(), (*told.messages, *remarks), refused, crashed)


def list_runs(folder: pathlib.Path) -> str:
    print_list(ListSettings(folder=str(folder.parent)))
    return ""


def status(folder: pathlib.Path) -> str:
    return repr(lines_about(state_of(folder)))


def report(folder: pathlib.Path) -> str:
    """The page without its pictures, which take seconds to draw, and the arrays that they show."""
    run = read_run(folder)
    support = read_support(run)
    arrays = vars(support).values() if support is not None else ()
    digests = [
        hashlib.sha256(np.ascontiguousarray(each)).hexdigest()
        for each in arrays
        if isinstance(each, np.ndarray)
    ]
    activity = activity_of(run)
    return render(run, command_of(run), {}, activity) + repr((digests, run.spectra))


def evaluate(folder: pathlib.Path) -> str:
    print_evaluation(EvaluateSettings(distilled=str(folder / "distilled.npz")))
    return ""


def evaluate_best(folder: pathlib.Path) -> str:
    print_evaluation(EvaluateSettings(distilled=str(folder / "best.npz")))
    return ""


def resume(settings: RunSettings) -> Callable[[pathlib.Path], str]:
    """An action that resumes a run and gives the keys of its sets."""

    def act(folder: pathlib.Path) -> str:
        workdir = Workdir(folder)
        # The report has an action of its own, and nothing of a commit changes here.
        with (
            mock.patch.object(coordinator, "_report"),
            mock.patch("kipper.server.report.environment._revision", return_value=None),
        ):
            result = coordinator.run_inprocess(settings.replace(workdir=str(folder)))
        found = [set_key(*load_distilled(workdir.distilled)), result.test]
        if workdir.best.exists():
            found.append(set_key(*load_distilled(workdir.best)))
        steps = [each.step for each in workdir.evaluations()]
        return repr((found, steps, [each.step for each in workdir.validations()]))

    return act


def unfinished_transfer(folder: pathlib.Path) -> str:
    return repr(read_finished(folder, TRANSFER))


def make_bases(top: pathlib.Path) -> dict[str, tuple[pathlib.Path, Actions]]:
    """Folders of runs, with what may be done in each."""
    digits, data = load_dataset("digits", None), top / "few.npz"
    top.mkdir()
    few = limit(digits, 100, 50)
    write_npz(
        data, {name: getattr(few, name) for name in ("x_train", "y_train", "x_test", "y_test")}
    )
    common = {"dataset": f"npz:{data}", "num_workers": 1, "dashboard": "none"}
    kip = RunSettings.of(
        DistillSettings, workdir=str(top / "kip"), steps=4, learn_labels=True, **common
    )
    solve = RunSettings.of(SolveLabelsSettings, workdir=str(top / "solve"), **common)
    for settings in (kip, solve):
        coordinator.run_inprocess(settings)
    shutil.copytree(top / "kip", top / "killed")
    killed = Workdir(top / "killed")
    for path in (killed.result, killed.distilled, killed.neighbours, killed.report):
        path.unlink()
    (top / "transfer").mkdir()
    for name in ("distilled.npz", "preprocessing.npz"):
        shutil.copy(top / "kip" / name, top / "transfer")
    network = NetworkResult(0, 0.5, None, 1.0, 0.25, 100, 1.5)
    point = CurvePoint(0, 1, 0.5, 1.0, None, 0.5, 1.5)
    write_finished(top / "transfer", TRANSFER, Finished([network], [point]))
    look: Actions = {"list": list_runs, "status": status, "report": report}
    longer = kip.replace(steps=6)
    return {
        "kip": (
            top / "kip",
            {
                **look,
                "evaluate": evaluate,
                "evaluate best": evaluate_best,
                "resume": resume(longer),
            },
        ),
        "killed": (top / "killed", {**look, "resume": resume(longer)}),
        "solve": (top / "solve", {**look, "evaluate": evaluate, "resume": resume(solve)}),
        "transfer": (top / "transfer", {"evaluate": evaluate, "transfer": unfinished_transfer}),
    }


def damage(path: pathlib.Path, rng: random.Random) -> str:
    """Damages a file, and says how."""
    content, times = bytearray(path.read_bytes()), path.stat()
    kind = rng.choices(("flip", "cut", "double"), (8, 1, 1))[0]
    if not content:
        what = "it is empty"
    elif kind == "flip":
        at, bit = rng.randrange(len(content)), rng.randrange(8)
        content[at] ^= 1 << bit
        what = f"bit {bit} of byte {at} flipped"
    elif kind == "cut":
        size = rng.randrange(len(content))
        del content[size:]
        what = f"cut to {size} bytes"
    else:
        lines = bytes(content).split(b"\n")
        number = rng.randrange(len(lines))
        lines.insert(rng.randrange(len(lines)), lines[number])
        content = bytearray(b"\n".join(lines))
        what = f"line {number} doubled"
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return what


def kind_of(found: dict[str, Seen], undamaged: dict[str, Seen]) -> str:
    """How a damage ended."""
    if any(each.crashed for each in found.values()):
        return "CRASHED"
    silent = [
        name
        for name, each in found.items()
        if each.shown != undamaged[name].shown and not set(each.told) - set(undamaged[name].told)
    ]
    if silent:
        return f"SILENT {','.join(silent)}"
    if any(each.refused for each in found.values()):
        return "refused"
    if any(set(each.told) - set(undamaged[name].told) for name, each in found.items()):
        return "mended or told"
    return "harmless"


def trials(
    bases: dict[str, tuple[pathlib.Path, Actions]], count: int, seed: int, scratch: pathlib.Path
) -> Iterator[tuple[str, str, str, str, dict[str, Seen]]]:
    """Base, file, damage and outcome of each trial, and what was seen."""
    folder = scratch / "run" / "it"
    undamaged = {}
    files = {}
    for name, (base, actions) in bases.items():
        files[name] = sorted(path.relative_to(base) for path in base.rglob("*") if path.is_file())
        shutil.copytree(base, folder)
        undamaged[name] = {what: seen(act, folder) for what, act in actions.items()}
        remove(folder)
        wrong = {
            what: each for what, each in undamaged[name].items() if each.refused or each.crashed
        }
        assert not wrong, wrong
    rng = random.Random(seed)
    for _ in range(count):
        name = rng.choice([*bases])
        base, actions = bases[name]
        file = rng.choice(files[name])
        shutil.copytree(base, folder)
        what = damage(folder / file, rng)
        found = {action: seen(act, folder) for action, act in actions.items()}
        remove(folder)
        yield name, str(file), what, kind_of(found, undamaged[name]), found


def main() -> None:
    """Prints the counts, and every trial that was silent or crashed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=MEMORY) as top:
        bases = make_bases(pathlib.Path(top) / "bases")
        scratch = pathlib.Path(top) / "scratch"
        for name, file, what, kind, found in trials(bases, options.trials, options.seed, scratch):
            counts[name, kind] += 1
            if time.monotonic() - began > 60 * options.minutes:
                break
            if kind.startswith(("SILENT", "CRASHED")):
                print(f"{kind}: {name}/{file}: {what}", flush=True)
                for each in found.values():
                    print(each.crashed, end="")
    print(f"{sum(counts.values())} trials in {time.monotonic() - began:.0f} s")
    for (name, kind), count in sorted(counts.items()):
        print(f"{name:10} {kind:20} {count:6}")


if __name__ == "__main__":
    main()
