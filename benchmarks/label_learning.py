"""Compares KIP with fixed labels, labels learned by Adam, and labels solved for, at equal steps.

    python benchmarks/label_learning.py [--dataset=mnist5k] [--data_dir=DIR] [--architecture=fc1]
        [--support_size=10] [--target_batch_size=500] [--steps=300] [--learning_rate=0.04]
        [--seeds=0,1,2] [--json]

All variants start from the same images and see the same target batches. Prints means over the seeds
at some steps, with the standard deviation at the last: accuracy and loss (half the mean squared
error) on all test images, and the loss on the step's targets. Exact labels have just been solved
for these targets at multiples of their interval.
"""

import argparse
import json
import pathlib
import tempfile
from typing import Any

import numpy as np

from kipper.common.settings import DistillSettings, EvaluateSettings, RunSettings
from kipper.launch.commands.evaluate import evaluate_file
from kipper.launch.run import run
from kipper.server.workdir import Workdir

WAYS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "Adam": {"learn_labels": True},
    "Adam, label rate a tenth": {"learn_labels": True, "label_learning_rate": 0.1},
    "exact, every step": {"solve_labels_every": 1},
    "exact, every 5 steps": {"solve_labels_every": 5},
    "exact, every 25 steps": {"solve_labels_every": 25},
}


def curve(options: argparse.Namespace, seed: int, way: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of one run; the last one includes the test loss."""
    rate = way.get("label_learning_rate")
    if rate is not None:  # as a fraction of the images' rate
        way = {**way, "label_learning_rate": rate * options.learning_rate}
    with tempfile.TemporaryDirectory() as folder:
        settings = RunSettings.of(
            DistillSettings,
            workdir=folder,
            dataset=options.dataset,
            data_dir=options.data_dir,
            architecture=options.architecture,
            support_size=options.support_size,
            target_batch_size=options.target_batch_size,
            steps=options.steps,
            eval_every=25,
            learning_rate=options.learning_rate,
            seed=seed,
            **way,
        )
        run(settings)
        workdir = Workdir(pathlib.Path(folder))
        records = workdir.read_records(workdir.metrics)
        evaluation = evaluate_file(EvaluateSettings(distilled=str(workdir.distilled)))
    records[-1]["test_loss"] = evaluation.test.loss
    return records


def summary(name: str, curves: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Means over the seeds by step, with spreads at the last step."""
    accuracy = np.array([[record["test_accuracy"] for record in records] for records in curves])
    loss = np.array([[record["loss"] for record in records] for records in curves])
    test_loss = np.array([records[-1]["test_loss"] for records in curves])
    steps = [record["step"] for record in curves[0]]
    return {
        "labels": name,
        "accuracy": dict(zip(steps, accuracy.mean(0).round(4).tolist(), strict=True)),
        "loss": dict(zip(steps, loss.mean(0).round(6).tolist(), strict=True)),
        "accuracy_spread": round(float(accuracy[:, -1].std()), 4),
        "test_loss": round(float(test_loss.mean()), 6),
        "test_loss_spread": round(float(test_loss.std()), 6),
        "regularised_condition_number": float(
            np.median([records[-1]["regularised_condition_number"] for records in curves])
        ),
        "seconds": round(float(np.mean([records[-1]["seconds"] for records in curves])), 1),
    }


def print_table(summaries: list[dict[str, Any]], shown: list[int]) -> None:
    steps = "".join(f"{step:>9}" for step in shown)
    print(f"{'test accuracy after':26}{steps}  spread   loss, targets   loss, test  condition")
    for row in summaries:
        accuracies = "".join(f"{row['accuracy'][step]:9.4f}" for step in shown)
        losses = f"{row['loss'][shown[-1]]:15.6f}{row['test_loss']:13.6f}"
        print(
            f"{row['labels']:26}{accuracies}{row['accuracy_spread']:8.4f}{losses}"
            f"{row['regularised_condition_number']:11.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="mnist5k")
    parser.add_argument("--data_dir")
    parser.add_argument("--architecture", default="fc1")
    parser.add_argument("--support_size", type=int, default=10)
    parser.add_argument("--target_batch_size", type=int)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--learning_rate", type=float, default=0.04)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    summaries = [
        summary(name, [curve(options, seed, way) for seed in seeds]) for name, way in WAYS.items()
    ]
    if options.json:
        print(json.dumps({**vars(options), "ways": summaries}))
        return
    evaluated = {*range(0, options.steps, 25), options.steps}
    shown = sorted(evaluated & {25, 50, 100, options.steps})
    print_table(summaries, shown)


if __name__ == "__main__":
    main()
