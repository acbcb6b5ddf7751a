"""Compares a whole `kipper distill` with a plain jax.jit script of the same run.

    python benchmarks/kip_run.py --data_dir=DIR [--dataset=cifar10] [--support_size=100]
        [--steps=100] [--rounds=1] [--launch=inprocess|local_mp]

Each side is a separate process, timed from start to end: imports, loading, preprocessing,
compilation, steps, and evaluations at the same steps. The plain side takes the same steps on the
same batches with neural-tangents in float64. kipper does more: it hashes the data, writes
checkpoints, scores snapshots on held-out images, and draws figures. Prints one JSON object.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time


def plain_run(data_dir: str, dataset: str, support_size: int, steps: int) -> float:
    """Runs the plain loop; returns the final test accuracy."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from kipper.common.datasets import load_dataset
    from kipper.common.labels import centred_one_hot
    from kipper.common.settings import DistillSettings
    from kipper.server import checkpoint, sampling
    from kipper.server.experiment import prepare
    from kipper.workers.neural_tangents import kernel_function

    jax.config.update("jax_enable_x64", True)
    settings = DistillSettings(
        dataset=dataset, support_size=support_size, kernel_dtype="float64", seed=1
    )
    experiment = prepare(settings, load_dataset(dataset, data_dir))
    kernel, optimiser = kernel_function(settings.kernel_spec), optax.adam(settings.learning_rate)

    def predict(images, labels, x_target):
        k_ss = kernel(images, images)
        ridge = settings.ridge * jnp.trace(k_ss) / len(k_ss)
        regularised = k_ss + ridge * jnp.eye(len(k_ss))
        return kernel(x_target, images) @ jax.scipy.linalg.solve(
            regularised, labels, assume_a="pos"
        )

    def loss(images, labels, x_target, y_target):
        return 0.5 * jnp.mean((predict(images, labels, x_target) - y_target) ** 2)

    @jax.jit
    def step(images, state, labels, x_target, y_target):
        gradient = jax.grad(loss)(images, labels, x_target, y_target)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(images, updates), state

    jitted_predict = jax.jit(predict)
    images = jnp.asarray(experiment.support, jnp.float64)
    labels = centred_one_hot(experiment.support_labels, experiment.num_classes)
    state = optimiser.init(images)
    accuracy = 0.0
    for index in range(steps + 1):
        if checkpoint.is_named(index) or index == steps:
            pieces = np.array_split(experiment.test.images.astype(np.float64), 4)
            classes = np.concatenate(
                [np.argmax(jitted_predict(images, labels, piece), axis=1) for piece in pieces]
            )
            accuracy = float(np.mean(classes == experiment.test.labels))
        rows = sampling.target_rows(
            experiment.target.labels, experiment.num_classes, 5000, settings.seed, index
        )
        x_target = experiment.target.images[rows].astype(np.float64)
        y_target = centred_one_hot(experiment.target.labels[rows], experiment.num_classes)
        images, state = step(images, state, labels, x_target, y_target)
    return accuracy


def kipper_run(options: argparse.Namespace) -> float:
    """Runs the command line; returns the final test accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-c", "from kipper.launch.main import main; main()", "distill"),
            *(f"--workdir={folder}", f"--dataset={options.dataset}"),
            *(f"--data_dir={options.data_dir}", f"--support_size={options.support_size}"),
            *("--architecture=fc1", "--kernel_dtype=float64", "--seed=1"),
            *("--target_batch_size=5000", "--learning_rate=0.04", "--engine=neural_tangents"),
            *(f"--steps={options.steps}", f"--launch={options.launch}", "--num_workers=2"),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        result = json.loads((pathlib.Path(folder) / "result.json").read_text())
        return float(result["test_accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--support_size", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--launch", default="inprocess")
    parser.add_argument("--plain", action="store_true", help="run as the plain side")
    options = parser.parse_args()
    if options.plain:
        print(plain_run(options.data_dir, options.dataset, options.support_size, options.steps))
        return
    plain_seconds, kipper_seconds = [], []
    plain_accuracy = kipper_accuracy = 0.0
    for _ in range(options.rounds):
        started = time.perf_counter()
        plain = subprocess.run(
            [sys.executable, *sys.argv, "--plain"], check=True, stdout=subprocess.PIPE, text=True
        )
        plain_seconds.append(round(time.perf_counter() - started, 1))
        plain_accuracy = float(plain.stdout)
        started = time.perf_counter()
        kipper_accuracy = kipper_run(options)
        kipper_seconds.append(round(time.perf_counter() - started, 1))
    ratio = sum(kipper_seconds) / sum(plain_seconds)
    print(
        json.dumps(
            {
                "dataset": options.dataset,
                "support_size": options.support_size,
                "steps": options.steps,
                "launch": options.launch,
                "plain_seconds": plain_seconds,
                "kipper_seconds": kipper_seconds,
                "ratio": round(ratio, 3),
                "plain_accuracy": plain_accuracy,
                "kipper_accuracy": kipper_accuracy,
            }
        )
    )


if __name__ == "__main__":
    main()
