"""Compares recipes of KIP over seeds: test accuracy against kernel pairs computed, not steps.

    python benchmarks/recipe.py [--dataset=digits] [--data_dir=DIR] [--side=SIDE] [--limit=N]
        [--architecture=convnet] [--preprocess=standard] [--support_size=10] [--steps=300]
        [--seeds=0,1,2] [--recipe=NAME=FLAG,FLAG … …] [--json]

A recipe is a name and flags of `kipper distill` without their dashes, such as
`--recipe=ce=loss=cross_entropy,average=0.98`; without any, the two of `kipper distill --recipe` are
compared, the parts of the second, and the second by SOAP. Every recipe learns labels, starts from
the same images and sees the same targets. With `--side`, images are averaged down to that many
pixels a side, a stand-in at a fraction of the cost. Pairs are those of the steps, each with its
gradient; evaluations are left out. Prints means over seeds and the standard deviation of the last.
`recipe_search.py` tries what no flag of `kipper distill` offers.
"""

import argparse
import json
import pathlib
import tempfile

import numpy as np

from kipper.common.datasets import load_dataset
from kipper.common.settings import DistillSettings, ExecutionSettings, RunSettings
from kipper.launch import flag_sets
from kipper.launch.run import run
from kipper.server.workdir import Workdir

RECIPES = {
    "paper": "recipe=paper",
    "paper, rate 0.06": "recipe=paper,learning_rate=0.06",
    "cross-entropy": "recipe=fast,average=0",
    "average": "recipe=fast,loss=squared",
    "fast": "recipe=fast",
    "fast, SOAP": "recipe=fast,optimiser=soap",
}
# Steps that are shown, besides the last.
SHOWN = (26, 54, 112, 162, 233, 335, 483, 695)


def smaller(images: np.ndarray, side: int) -> np.ndarray:
    """Images (N, H, W, c) averaged down to (N, side, side, c), float32."""
    count, height, width, channels = images.shape
    tall, wide = height // side, width // side
    cut = images[:, : side * tall, : side * wide].astype(np.float32)
    return cut.reshape(count, side, tall, side, wide, channels).mean((2, 4))


def averaged_down(options: argparse.Namespace, folder: str) -> str:
    """The name of a data set whose images are averaged down to `side` pixels."""
    found = load_dataset(options.dataset, options.data_dir)
    path = pathlib.Path(folder) / "smaller.npz"
    np.savez(
        path,
        x_train=smaller(found.x_train, options.side),
        y_train=found.y_train,
        x_test=smaller(found.x_test, options.side),
        y_test=found.y_test,
    )
    return f"npz:{path}"


def curve(options: argparse.Namespace, dataset: str, flags: str, seed: int) -> dict[int, float]:
    """The test accuracies of one run by step; and under -1 the pairs of a step."""
    with tempfile.TemporaryDirectory() as folder:
        given = [
            f"--workdir={folder}",
            f"--dataset={dataset}",
            *([f"--data_dir={options.data_dir}"] if options.data_dir else []),
            *([f"--test_limit={options.limit}"] if options.limit else []),
            f"--architecture={options.architecture}",
            f"--preprocess={options.preprocess}",
            f"--support_size={options.support_size}",
            f"--steps={options.steps}",
            f"--seed={seed}",
            "--learn_labels",
            "--dashboard=none",
            "--verify_fraction=0",
            *(f"--{flag}" for flag in flags.split(",")),
        ]
        parsed = flag_sets.parse((DistillSettings, ExecutionSettings), "distill", given)
        compute, execution = parsed
        assert isinstance(compute, DistillSettings)
        assert isinstance(execution, ExecutionSettings)
        run(RunSettings(compute, execution))
        evaluations = Workdir(pathlib.Path(folder)).evaluations()
    found = {each.step: each.test.value for each in evaluations if each.test is not None}
    size = options.support_size
    return {-1: size * compute.targets_per_step + size * size, **found}


def summary(name: str, curves: list[dict[int, float]]) -> dict[str, object]:
    """Means over seeds in per cent by step, and the spread at the last step."""
    steps = sorted(set.intersection(*(set(each) for each in curves)) - {-1})
    values = 100 * np.array([[each[step] for step in steps] for each in curves])
    return {
        "recipe": name,
        "pairs_per_step": curves[0][-1],
        "accuracy": dict(zip(steps, values.mean(0).round(2).tolist(), strict=True)),
        "spread": dict(zip(steps, values.std(0).round(2).tolist(), strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data_dir")
    parser.add_argument("--side", type=int)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--architecture", default="convnet")
    parser.add_argument("--preprocess", default="standard")
    parser.add_argument("--support_size", type=int, default=10)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--recipe", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    recipes = dict(each.split("=", 1) for each in options.recipe) or RECIPES
    with tempfile.TemporaryDirectory() as folder:
        dataset = averaged_down(options, folder) if options.side else options.dataset
        rows = []
        for name, flags in recipes.items():
            curves = [curve(options, dataset, flags, int(s)) for s in options.seeds.split(",")]
            rows.append(summary(name, curves))
            print_row(rows[-1], options)
    if options.json:
        print(json.dumps({**vars(options), "recipes": rows}))


def print_row(row: dict, options: argparse.Namespace) -> None:
    steps = [step for step in (*SHOWN, options.steps) if step in row["accuracy"]]
    shown = "  ".join(
        f"{step * row['pairs_per_step']:,}: {row['accuracy'][step]:.1f} ± {row['spread'][step]:.1f}"
        for step in dict.fromkeys(steps)
    )
    print(f"{row['recipe']:18} {shown}", flush=True)


if __name__ == "__main__":
    main()
