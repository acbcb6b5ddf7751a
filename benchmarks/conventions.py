"""Compares conventions that the papers leave open, in Label Solve with the ConvNet NTK.

    python benchmarks/conventions.py --workdir=DIR --dataset=mnist --data_dir=DIR [--preprocess=zca]
        [--support_size=100] [--seeds=0,1,2] [--b_std=0.1,0.01] [--statistics=50000,45000]
        [--dtypes=float32]

Preprocessing is fitted to the first `statistics` training images. Kernel matrices are computed once
per draw of support images, b_std, number of images and dtype, and kept in `workdir`. Each case
gives test accuracy and loss for both ridge conventions of the labels and several ridges. Prints one
JSON object per line.
"""

import argparse
import dataclasses
import itertools
import json
import pathlib
import sys
import time

import numpy as np

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.datasets import load_dataset
from kipper.common.files import write_npz
from kipper.common.labels import centred_one_hot
from kipper.common.preprocessing import fit_preprocessing
from kipper.server import evaluation, krr, label_solve, sampling
from kipper.workers.choice import make_engine
from kipper.workers.engine import Engine, PreparedImages

_TARGETS_PER_BLOCK = 256
_RIDGES = (1e-5, 1e-6, 1e-7)


def prepared(engine: Engine, images: np.ndarray) -> PreparedImages:
    return PreparedImages(images, engine.features(images))


def kernel_columns(engine: Engine, support: PreparedImages, images: np.ndarray) -> np.ndarray:
    """K(images, support), float64."""
    columns = np.empty((len(images), len(support.images)))
    for first in range(0, len(images), _TARGETS_PER_BLOCK):
        chunk = slice(first, first + _TARGETS_PER_BLOCK)
        columns[chunk] = engine.block(support, prepared(engine, images[chunk])).T
    return columns


def matrices(
    options: argparse.Namespace, case: tuple[int, float, int, str]
) -> dict[str, np.ndarray]:
    """K_ss, the sums over all targets, K_test, and the labels needed to score it."""
    seed, b_std, statistics, dtype = case
    path = options.workdir / ("-".join(map(str, (*name_of(options), *case))) + ".npz")
    if path.exists():
        with np.load(path) as arrays:
            return dict(arrays)
    dataset = load_dataset(options.dataset, options.data_dir)
    preprocessing = fit_preprocessing(options.preprocess, dataset.x_train[:statistics])
    rows = sampling.support_rows(dataset.y_train, dataset.num_classes, options.support_size, seed)
    architecture = dataclasses.replace(architecture_named("convnet"), b_std=b_std)
    engine = make_engine("auto", KernelSpec(architecture, "ntk", dtype), options.threads)
    started = time.perf_counter()
    support = prepared(engine, preprocessing.apply(dataset.x_train[rows]).astype(dtype))
    k_ts = kernel_columns(engine, support, preprocessing.apply(dataset.x_train).astype(dtype))
    targets = centred_one_hot(dataset.y_train, dataset.num_classes)
    k_test = kernel_columns(engine, support, preprocessing.apply(dataset.x_test).astype(dtype))
    result = {
        "k_ss": np.asarray(engine.block(support, support), np.float64),
        "gram": k_ts.T @ k_ts,
        "cross": k_ts.T @ targets,
        "square": np.sum(targets**2),
        "num_targets": np.array(len(targets)),
        "k_test": k_test,
        "y_test": dataset.y_test,
        "natural": centred_one_hot(dataset.y_train[rows], dataset.num_classes),
    }
    seconds = time.perf_counter() - started
    print(f"{path.name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    write_npz(path, result)
    return result


def name_of(options: argparse.Namespace) -> tuple[str, ...]:
    return options.dataset, options.preprocess, str(options.support_size)


def scores(of: dict[str, np.ndarray], ridge: float, convention: str) -> dict[str, float]:
    """Test accuracy and loss of solved labels, and test accuracy of natural labels."""
    moments = label_solve.Moments(
        of["gram"], of["cross"], float(of["square"]), int(of["num_targets"])
    )
    labels = label_solve.solve_labels(of["k_ss"], moments, ridge, convention)
    factor = krr.Factor(of["k_ss"], ridge)
    solved, natural = (
        evaluation.score_of(of["k_test"] @ factor.solve(each), of["y_test"])
        for each in (labels, of["natural"])
    )
    return {
        "accuracy": round(solved.value, 4),
        "loss": round(solved.loss, 6),
        "natural_accuracy": round(natural.value, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data_dir")
    parser.add_argument("--preprocess", default="standard")
    parser.add_argument("--support_size", type=int, default=100)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--b_std", default="0.1")
    parser.add_argument("--statistics", help="default: all training images")
    parser.add_argument("--dtypes", default="float32")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    everything = len(load_dataset(options.dataset, options.data_dir).y_train)
    for case in itertools.product(
        map(int, options.seeds.split(",")),
        map(float, options.b_std.split(",")),
        map(int, (options.statistics or str(everything)).split(",")),
        options.dtypes.split(","),
    ):
        of = matrices(options, case)
        named = dict(zip(("seed", "b_std", "statistics", "dtype"), case, strict=True))
        for convention, ridge in itertools.product(("paper", "notebook"), _RIDGES):
            print(
                json.dumps(
                    {**named, "labels": convention, "ridge": ridge, **scores(of, ridge, convention)}
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
