"""Measures the errors of float32 kernels: in K, its gradient, the regression, a whole KIP run.

    python benchmarks/single_precision.py [--architecture=convnet] [--steps=100]

Compares with float64, on the embedded MNIST digits (5,000, 28x28), with 20 support images and 200
targets. The support images are among the targets, so some pairs coincide. "Run" is KIP with learned
labels, from the same draw and with the same batches, in float32 and in float64.
"""

import argparse
import json
import tempfile
from typing import Any

import numpy as np

from kipper.common.architecture import KernelSpec, architecture_named
from kipper.common.datasets import load_dataset
from kipper.common.labels import centred_one_hot
from kipper.common.preprocessing import fit_preprocessing
from kipper.common.settings import DistillSettings, RunSettings
from kipper.launch.run import run
from kipper.server import krr
from kipper.server.distilled_set import load_distilled
from kipper.server.workdir import Workdir
from kipper.workers.choice import make_engine
from kipper.workers.engine import PreparedImages

SUPPORT, TARGETS, RIDGE = 20, 200, 1e-6


def regression_errors(architecture: str) -> dict[str, float]:
    """Errors relative to the largest entry, at natural images."""
    dataset = load_dataset("mnist5k", None)
    preprocessing = fit_preprocessing("standard", dataset.x_train)
    rows = np.random.default_rng(0).permutation(len(dataset.x_train))[:TARGETS]
    targets = preprocessing.apply(dataset.x_train[rows])
    labels = centred_one_hot(dataset.y_train[rows], 10)
    found = {}
    for dtype in ("float32", "float64"):
        engine = make_engine(
            "auto", KernelSpec(architecture_named(architecture), "ntk", dtype), threads=2
        )
        x_t = targets.astype(dtype)
        x_t = PreparedImages(x_t, engine.features(x_t))
        x_s = x_t.take(slice(SUPPORT))
        k_ss, k_ts = (engine.block(x_s, x).astype(float) for x in (x_s, x_t))
        regression = krr.regress(k_ss, k_ts.T, labels[:SUPPORT], labels, RIDGE)
        cotangent = regression.cotangents.k_ts.T.astype(dtype)
        _, (of_ts,) = engine.block_vjp(x_s, x_t, cotangent, both=False)
        cotangent = regression.cotangents.k_ss.astype(dtype)
        _, of_ss = engine.block_vjp(x_s, x_s, cotangent, both=True)
        found[dtype] = {
            "K off the diagonal": np.where(np.eye(SUPPORT), 0, k_ss),
            "K on the diagonal": np.diag(k_ss),
            "K target, support": k_ts,
            "gradient": of_ts + sum(of_ss),
            "predictions": regression.predictions,
            "loss": np.array([regression.loss]),
        }
    single, double = found["float32"], found["float64"]
    return {name: _error(single[name], double[name]) for name in double}


def run_errors(architecture: str, steps: int) -> dict[str, Any]:
    outcomes = {}
    for dtype in ("float32", "float64"):
        with tempfile.TemporaryDirectory() as workdir:
            result = run(
                RunSettings.of(
                    DistillSettings,
                    workdir=workdir,
                    dataset="mnist5k",
                    architecture=architecture,
                    support_size=SUPPORT,
                    learn_labels=True,
                    steps=steps,
                    target_batch_size=TARGETS,
                    kernel_dtype=dtype,
                    eval_every=max(1, steps // 5),
                )
            )
            records = Workdir(workdir).read_records(Workdir(workdir).metrics)
            outcomes[dtype] = result, records, load_distilled(Workdir(workdir).distilled)
    (single, records32, (images32, labels32)) = outcomes["float32"]
    (double, records64, (images64, labels64)) = outcomes["float64"]
    return {
        "images": _error(images32, images64),
        "labels": _error(labels32, labels64),
        "loss by step": {
            record64["step"]: abs(record32["loss"] / record64["loss"] - 1)
            for record32, record64 in zip(records32, records64, strict=True)
        },
        "test_accuracy": {"float32": single.test.value, "float64": double.test.value},
        "seconds": {"float32": single.account.seconds, "float64": double.account.seconds},
    }


def _error(got: np.ndarray, want: np.ndarray) -> float:
    return float(np.abs(got - want).max() / np.abs(want).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="convnet")
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    report = {
        "architecture": options.architecture,
        "relative errors": regression_errors(options.architecture),
        "run": run_errors(options.architecture, options.steps),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
