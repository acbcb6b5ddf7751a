"""Searches for recipes of KIP that need fewer kernel pairs, on a stand-in for CIFAR-10.

    python benchmarks/recipe_search.py --results=FILE --data_dir=DIR [--side=16] [--budget=PAIRS]
        [--seeds=0,1] [--only=PATTERN] [--minutes=M]
    python benchmarks/recipe_search.py --results=FILE --table

Runs the contenders of `contenders.py`, one seed after another, each until it has computed the same
number of pairs, in one process of one thread, and appends a line to FILE after each run; a run that
FILE has is not made again. The stand-in is CIFAR-10 averaged down to `--side` pixels a side, ZCA,
ten images, labels learned. Contenders of one seed start from the same natural images and, as long
as their batches have the same size, see the same targets. `--table` prints for each setting of
FILE: test accuracy after an eighth, half and all of the budget, mean and standard deviation over
seeds; the mean of the differences from `fast` with the same seed; and the share of the budget after
which the contender has the accuracy that the paper's recipe has at its end.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from contenders import CONTENDERS, FAST, PAPER

from kipper.common.lazy_imports import import_without_collection

# What makes results comparable.
TASK = (
    "dataset", "side", "preprocess", "architecture", "support_size", "budget", "test_limit",
)  # fmt: skip
_SHOWN = (1 / 8, 1 / 2, 1.0)


def records(path: pathlib.Path) -> list[dict[str, Any]]:
    """The runs of a file, a line each."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def search(options: argparse.Namespace) -> None:
    import_without_collection("jax")  # which the next one brings
    import recipe_loop

    task = {name: getattr(options, name) for name in TASK}
    made = [(each["task"], each["recipe"], each["seed"]) for each in records(options.results)]
    wanted = [
        (name, int(seed))
        for seed in options.seeds.split(",")
        for name in CONTENDERS
        if re.search(options.only, name)
    ]
    if options.by_contender:
        wanted.sort(key=lambda each: list(CONTENDERS).index(each[0]))
    loaded = None
    ends = time.monotonic() + 60 * options.minutes
    for name, seed in wanted:
        contender = CONTENDERS[name]
        recipe = dataclasses.asdict(contender)
        if (task, recipe, seed) in made or time.monotonic() > ends:
            continue
        loaded = loaded or recipe_loop.Task.load(
            options.dataset,
            options.data_dir,
            options.side,
            options.preprocess,
            options.architecture,
            options.test_limit,
        )
        if contender.coarse_share and loaded.train.shape[1] < 16:
            continue  # half the pixels are too few for three pools
        found = recipe_loop.distill(loaded, contender, options.support_size, options.budget, seed)
        line = {"task": task, "contender": name, "recipe": recipe, "seed": seed, **found}
        with options.results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{name}, seed {seed}: {100 * found['accuracy'][1.0]:.1f} in {found['seconds']} s",
              flush=True)  # fmt: skip


def share_to_reach(shares: np.ndarray, accuracies: np.ndarray, wanted: float) -> float | None:
    """Where a curve reaches `wanted`, by straight lines over the logarithm of shares; or None."""
    reached = np.flatnonzero(accuracies >= wanted)
    if not len(reached):
        return None
    at = reached[0]
    if at == 0:
        return float(shares[0])
    low, high = accuracies[at - 1], accuracies[at]
    between = (wanted - low) / (high - low)
    return float(shares[at - 1] * (shares[at] / shares[at - 1]) ** between)


def mean_and_spread(values: list[float], sign: str = "-") -> str:
    """The mean and, of two or more values, the standard deviation, to a tenth."""
    spread = f" ± {np.std(values):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):{sign}.1f}{spread}"


def table(found: Iterable[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table of the runs of one task, in the order of the contenders."""
    curves: dict[str, dict[int, dict[float, float]]] = {}
    for each in found:
        if dataclasses.asdict(CONTENDERS[each["contender"]]) == each["recipe"]:
            scores = {float(share): 100 * value for share, value in each["accuracy"].items()}
            curves.setdefault(each["contender"], {})[each["seed"]] = scores

    def means(name: str) -> tuple[np.ndarray, np.ndarray]:
        values = np.array([list(curve.values()) for curve in curves[name].values()])
        return np.array(list(next(iter(curves[name].values())))), values.mean(0)

    at_end = means(PAPER)[1][-1] if PAPER in curves else None
    lines = [
        "| recipe | an eighth | half | all | above `fast` | share for `paper`'s end | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in CONTENDERS:
        if name not in curves:
            continue
        seeds = curves[name]
        cells = [name]
        for share in _SHOWN:
            cells.append(mean_and_spread([curve[share] for curve in seeds.values()]))
        common = sorted(set(seeds) & set(curves.get(FAST, {})))
        gains = [seeds[seed][1.0] - curves[FAST][seed][1.0] for seed in common]
        cells.append(mean_and_spread(gains, sign="+") if gains and name != FAST else "")
        reached = None if at_end is None else share_to_reach(*means(name), at_end)
        cells.append("" if reached is None else f"{reached:.2f}")
        cells.append(str(len(seeds)))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def windows(found: Iterable[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table: accuracy at the end by the average's decay."""
    found = list(found)
    names = [name for name in CONTENDERS if any(each["contender"] == name for each in found)]
    decays = list(found[0]["windows"])
    lines = [f"| average | {' | '.join(decays)} |", "| --- " * (1 + len(decays)) + "|"]
    for name in names:
        rows = [list(each["windows"].values()) for each in found if each["contender"] == name]
        cells = [f"{100 * value:.1f}" for value in np.mean(rows, axis=0)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def print_tables(path: pathlib.Path) -> None:
    tasks: dict[str, list[dict[str, Any]]] = {}
    for each in records(path):
        tasks.setdefault(json.dumps(each["task"]), []).append(each)
    for task, found in tasks.items():
        print(task, *table(found), "", *windows(found), "", sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=pathlib.Path, required=True)
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--data_dir")
    parser.add_argument("--side", type=int)
    parser.add_argument("--preprocess", default="zca")
    parser.add_argument("--architecture", default="convnet")
    parser.add_argument("--support_size", type=int, default=10)
    parser.add_argument("--budget", type=float, default=1.5e6, help="pairs")
    parser.add_argument("--test_limit", type=int, default=4000)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument(
        "--by_contender", action="store_true", help="all seeds of one, then the next"
    )
    parser.add_argument("--only", default="", help="a regular expression of contenders' names")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no run later")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print_tables(options.results)
    else:
        search(options)


if __name__ == "__main__":
    main()
