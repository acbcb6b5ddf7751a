"""Compares published figures with ours, and runs the exact command behind each.

    python benchmarks/reproduce.py --list [--rows=PATTERN]
    python benchmarks/reproduce.py --workdir=DIR --mnist=DIR --cifar10=DIR [--rows=PATTERN]
        [--seeds=1]
    python benchmarks/reproduce.py --workdir=DIR --table [--rows=PATTERN]

The second form runs everything unfinished in `--workdir`, in sequence, and resumes interrupted
runs. PATTERN is a file name pattern such as 'ls_convnet_mnist*'. `--seeds=1` takes only the first
draw of natural images of each row. The third form prints the results so far as a Markdown table,
with the step of unfinished runs.
"""

import argparse
import dataclasses
import fnmatch
import json
import pathlib
import shlex
import statistics
import subprocess
import sys
from typing import Any

from published import ROWS, Row


@dataclasses.dataclass(frozen=True)
class Measured:
    """The result of one run so far.

    Attributes:
        accuracy: on the test set, in per cent.
        loss: half the mean squared error on the test set; None if the run does not record it.
        step: the progress, such as "400 of 1000"; "" for a finished run.
    """

    accuracy: float
    loss: float | None
    kernel_pairs: int | None
    seconds: float
    step: str = ""


def selected(pattern: str) -> list[Row]:
    rows = [row for row in ROWS if fnmatch.fnmatch(row.name, pattern)]
    if not rows:
        sys.exit(f"No row is called {pattern!r}; --list names them all.")
    return rows


def command_line(row: Row, root: pathlib.Path, seed: int, data_dir: str) -> list[str]:
    """Arguments of kipper for one run in its folder under `root`."""
    own = folder(root, row, seed)
    if not row.of:
        return [*row.command, f"--data_dir={data_dir}", f"--seed={seed}", f"--workdir={own}"]
    distilled = folder(root, of(row), seed) / "distilled.npz"
    return [*row.command, f"--data_dir={data_dir}", f"--distilled={distilled}", f"--output={own}"]


def of(row: Row) -> Row:
    """The row whose distilled sets `row` uses."""
    return next(other for other in ROWS if other.name == row.of)


def run(row: Row, root: pathlib.Path, seed: int, data_dir: str, kipper: list[str]) -> None:
    """Runs or resumes one run; its output goes to a log beside its folder."""
    log = folder(root, row, seed).with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [*kipper, *command_line(row, root, seed, data_dir)]
    print(shlex.join(command), flush=True)
    with log.open("a") as output:
        status = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if status.returncode:
        last = log.read_text().strip().splitlines()[-1:]
        sys.exit(f"It ended with status {status.returncode}: {''.join(last)}")


def result_of(row: Row, workdir: pathlib.Path) -> dict[str, Any] | None:
    """The result file of a finished run; None before."""
    if row.of:
        return read_json(workdir / "transfer.json")
    result = read_json(workdir / "result.json")
    return result if result is not None and result["steps"] >= asked_steps(row) else None


def asked_steps(row: Row) -> int:
    steps = [flag.removeprefix("--steps=") for flag in row.command if flag.startswith("--steps=")]
    return int(steps[-1]) if steps else 0


def measured(row: Row, workdir: pathlib.Path) -> Measured | None:
    """The result of a run so far; None before its first evaluation."""
    result = result_of(row, workdir)
    if result is not None:
        return Measured(
            100 * result["test_accuracy"],
            result.get("test_loss"),
            None if row.of else result["kernel_pairs"] + result["vjp_pairs"],
            result["seconds"],
        )
    try:
        last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return None
    step = f"{last['step']} of {asked_steps(row)}"
    return Measured(100 * last["test_accuracy"], None, None, last["seconds"], step)


def read_json(path: pathlib.Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return content
    except (OSError, ValueError):
        return None


def table(rows: list[Row], workdir: pathlib.Path) -> str:
    """A Markdown table with a line for each published figure that has a result."""
    lines = [
        "| | published accuracy, % | ours | published loss | ours | draws | pairs | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        every = [measured(row, folder(workdir, row, seed)) for seed in row.seeds]
        found = [one for one in every if one is not None]
        if found:
            lines.append(table_line(row, found))
    return "\n".join(lines)


def table_line(row: Row, found: list[Measured]) -> str:
    steps = ", ".join(one.step for one in found if one.step)
    accuracy = spread([one.accuracy for one in found], 2) + (f" (step {steps})" if steps else "")
    losses = [one.loss for one in found if one.loss is not None]
    pairs = [one.kernel_pairs for one in found if one.kernel_pairs is not None]
    cells = [
        row.title,
        f"{row.accuracy} [{row.source}]",
        accuracy,
        row.loss,
        spread(losses, 6 if len(row.loss) > 7 else 5) if losses and row.loss else "",
        str(len(found)),
        f"{statistics.mean(pairs):,.0f}" if pairs else "",
        f"{statistics.mean(one.seconds for one in found):,.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def spread(values: list[float], digits: int) -> str:
    """The mean, and the standard deviation if there are several values."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def folder(workdir: pathlib.Path, row: Row, seed: int) -> pathlib.Path:
    return workdir / row.name / f"seed{seed}"


def listing(rows: list[Row]) -> str:
    width = max(len(row.name) for row in rows)
    return "\n".join(
        f"{row.name:{width}}  {row.accuracy:>10}  kipper {shlex.join(row.command)}" for row in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="*", help="pattern of row names")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument("--table", action="store_true", help="print the results so far")
    parser.add_argument("--workdir", type=pathlib.Path, help="folder of all runs")
    parser.add_argument("--seeds", type=int, help="maximum number of draws per row")
    parser.add_argument("--mnist", help="folder of MNIST's files")
    parser.add_argument("--cifar10", help="folder of CIFAR-10's files")
    parser.add_argument("--kipper", default=f"{sys.executable} -m kipper", help="kipper command")
    options = parser.parse_args()
    rows = selected(options.rows)
    if options.list:
        print(listing(rows))
        return
    if options.workdir is None:
        parser.error("--workdir is required: the folder of all runs.")
    if options.table:
        print(table(rows, options.workdir))
        return
    for row in rows:
        data_dir = getattr(options, row.dataset)
        if data_dir is None:
            print(f"{row.name} is skipped: give --{row.dataset}.")
            continue
        for seed in row.seeds[: options.seeds]:
            if result_of(row, folder(options.workdir, row, seed)) is not None:
                continue
            if row.of and not (folder(options.workdir, of(row), seed) / "distilled.npz").exists():
                print(f"{row.name} is skipped: run {row.of} first.")
                continue
            run(row, options.workdir, seed, data_dir, shlex.split(options.kipper))


if __name__ == "__main__":
    main()
