"""KIP by kipper's workers against a plain jax.jit of the same loss, in one run.

    python benchmarks/kip_step.py --data_dir=DIR [--dataset=cifar10] [--support_size=100]
        [--steps=30] [--rounds=2] [--launch=inprocess|local_mp]

Both sides take the same Adam steps on the same batches through neural-tangents in float64, and
evaluate on the test set at the same steps; both include their compilations. Neither includes
loading and preprocessing the data, nor (local_mp) starting the processes. Prints one JSON object.
"""

import argparse
import dataclasses
import json
import pathlib
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import enable_x64

from kipper.common.datasets import load_dataset
from kipper.common.labels import centred_one_hot
from kipper.common.settings import DistillSettings
from kipper.launch.coordinator import check_run, coordinate
from kipper.launch.inprocess import inprocess_links
from kipper.launch.local_program import run_local_program
from kipper.server import checkpoint, sampling
from kipper.server.experiment import Experiment, prepare
from kipper.workers.neural_tangents import kernel_function


def plain_run(settings: DistillSettings, experiment: Experiment) -> tuple[float, float]:
    """Seconds and final test accuracy of the plain jitted loop."""
    started = time.perf_counter()
    with enable_x64():
        kernel = kernel_function(settings.kernel_spec)
        optimiser = optax.adam(settings.learning_rate)

        def coefficients(images, labels):
            k_ss = kernel(images, images)
            ridge = settings.ridge * jnp.trace(k_ss) / len(k_ss)
            return jax.scipy.linalg.solve(k_ss + ridge * jnp.eye(len(k_ss)), labels, assume_a="pos")

        def loss(images, labels, x_target, y_target):
            predictions = kernel(x_target, images) @ coefficients(images, labels)
            return 0.5 * jnp.mean((predictions - y_target) ** 2)

        @jax.jit
        def step(images, state, labels, x_target, y_target):
            value, gradient = jax.value_and_grad(loss)(images, labels, x_target, y_target)
            updates, state = optimiser.update(gradient, state)
            return value, optax.apply_updates(images, updates), state

        @jax.jit
        def predict(images, labels, x_test):
            return kernel(x_test, images) @ coefficients(images, labels)

        images = jnp.asarray(experiment.support, jnp.float64)
        labels = centred_one_hot(experiment.support_labels, experiment.num_classes)
        state = optimiser.init(images)
        x_test = experiment.test.images.astype(np.float64)
        accuracy = 0.0
        for index in range(settings.steps + 1):
            if checkpoint.is_named(index) or index == settings.steps:
                # In pieces, as one jit of the whole test set needs gigabytes.
                parts = [
                    predict(images, labels, x_test[i : i + 2500])
                    for i in range(0, len(x_test), 2500)
                ]
                classes = np.argmax(np.concatenate(parts), axis=1)
                accuracy = float(np.mean(classes == experiment.test.labels))
            rows = sampling.target_rows(
                experiment.target.labels,
                experiment.num_classes,
                settings.target_batch_size,
                settings.seed,
                index,
            )
            x_target = experiment.target.images[rows].astype(np.float64)
            y_target = centred_one_hot(experiment.target.labels[rows], experiment.num_classes)
            _, images, state = step(images, state, labels, x_target, y_target)
            images.block_until_ready()
    return time.perf_counter() - started, accuracy


def kipper_run(settings: DistillSettings, experiment: Experiment) -> tuple[float, float]:
    """Seconds, as the run itself records them, and final test accuracy."""
    jax.clear_caches()
    if settings.launch == "inprocess":
        check_run(settings)
        splits = (experiment.target, experiment.test, experiment.validation)
        links = inprocess_links(settings.num_workers, [split.images for split in splits])
        started = time.perf_counter()
        result = coordinate(settings, experiment, links)
        return time.perf_counter() - started, result["test_accuracy"]
    result = run_local_program(settings)
    return result["seconds"], result["test_accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--support_size", type=int, default=100)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--launch", default="inprocess")
    arguments = parser.parse_args()
    settings = DistillSettings(
        workdir="",
        dataset=arguments.dataset,
        data_dir=arguments.data_dir,
        support_size=arguments.support_size,
        steps=arguments.steps,
        kernel_dtype="float64",
        seed=1,
        launch=arguments.launch,
    )
    experiment = prepare(settings, load_dataset(settings.dataset, settings.data_dir))
    plain, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(arguments.rounds):
            jax.clear_caches()
            plain.append(plain_run(settings, experiment))
            workdir = str(pathlib.Path(folder) / str(index))
            ours.append(kipper_run(dataclasses.replace(settings, workdir=workdir), experiment))
    print(
        json.dumps(
            {
                "steps": arguments.steps,
                "plain_seconds": [round(seconds, 2) for seconds, _ in plain],
                "kipper_seconds": [round(seconds, 2) for seconds, _ in ours],
                "ratio": round(sum(s for s, _ in ours) / sum(s for s, _ in plain), 3),
                "plain_accuracy": plain[-1][1],
                "kipper_accuracy": ours[-1][1],
                "launch": arguments.launch,
                "num_workers": settings.num_workers,
            }
        )
    )


if __name__ == "__main__":
    main()
