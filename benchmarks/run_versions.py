"""Compares KIP runs by this tree's engine with those by another version, at equal steps.

    python benchmarks/run_versions.py --other=DIR [--architecture=convnet] [--steps=100]
        [--seeds=0,1,2] [--targets=500] [--cases=standardised,whitened,frames]

DIR holds another version of kipper as its root, with its native libraries built. Each version runs
in a process of its own. The cases: scikit-learn's digits, standardised and whitened, of which ten
are learned, and frames of two still scenes, 8x8x3, that differ by one grey level in 2 % of their
values, standardised, of which twenty are learned. Kernels are float32, and labels are learned too.
Prints for each seed the test accuracy of both versions, and how far their learned images are apart,
relative in the Euclidean norm.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

Arrays = tuple[np.ndarray, ...]  # x_train, y_train, x_test, y_test


def digits() -> Arrays:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images / 16).astype(np.float32)[..., None]
    order = np.random.default_rng(0).permutation(len(images))
    train, test = order[:1400], order[1400:]
    return images[train], found.target[train], images[test], found.target[test]


def frames() -> Arrays:
    rng = np.random.default_rng(0)
    scenes = rng.integers(30, 226, (2, 1, 8, 8, 3))
    changed = rng.random((2, 300, 8, 8, 3)) < 0.02
    images = ((scenes + changed) / 255).astype(np.float32)
    train, test = images[:, :250], images[:, 250:]
    flat = (part.reshape(-1, 8, 8, 3) for part in (train, test))
    labels = (np.repeat(np.arange(2), part.shape[1]) for part in (train, test))
    (x_train, x_test), (y_train, y_test) = flat, labels
    return x_train, y_train, x_test, y_test


CASES = {
    "standardised": (digits, {"support_size": 10, "preprocess": "standard"}),
    "whitened": (digits, {"support_size": 10, "preprocess": "zca"}),
    "frames": (frames, {"support_size": 20, "preprocess": "standard"}),
}


def serve() -> None:
    """The process of one version: a run as its input says."""
    import kipper
    from kipper.common.errors import KipperError

    data, images, settings = json.loads(sys.stdin.read())
    with np.load(data) as arrays:
        given = [arrays[f"arr_{index}"] for index in range(4)]
    try:
        result = kipper.distill(*given, **settings)
    except KipperError as refused:
        print(json.dumps({"refused": str(refused)}))
        return
    np.save(images, result.images)
    print(json.dumps({"accuracy": result.test_accuracy}))


def run(root: pathlib.Path, folder: pathlib.Path, request: list[Any]) -> dict[str, Any]:
    """One run by a version, in a process of its own."""
    folder.mkdir(exist_ok=True)
    if not (folder / "kipper").is_symlink():
        (folder / "kipper").symlink_to(root.resolve())
    finished = subprocess.run(
        [sys.executable, os.path.abspath(__file__), "--serve"],
        input=json.dumps(request),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=pathlib.Path)
    parser.add_argument("--architecture", default="convnet")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--targets", type=int, default=500)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--serve", action="store_true", help="used by the script itself")
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    if options.other is None:
        parser.error("--other=DIR is needed: the root of the other version")
    with tempfile.TemporaryDirectory() as folder:
        compare(options, pathlib.Path(folder))


def compare(options: argparse.Namespace, folder: pathlib.Path) -> None:
    """Runs all cases and prints a row for each seed."""
    roots = {"before": options.other, "now": pathlib.Path(__file__).parents[1]}
    print("| case, seed | accuracy before | now | images apart |")
    print("| --- | --- | --- | --- |")
    for case in options.cases.split(","):
        make, chosen = CASES[case]
        np.savez(folder / "data.npz", *make())
        for seed in map(int, options.seeds.split(",")):
            settings = {
                "architecture": options.architecture,
                "steps": options.steps,
                "target_batch_size": options.targets,
                "learn_labels": True,
                "eval_every": options.steps,
                "seed": seed,
                **chosen,
            }
            reports, images = {}, {}
            for version, root in roots.items():
                saved = folder / f"{version}.npy"
                request = [str(folder / "data.npz"), str(saved), settings]
                reports[version] = run(root, folder / version, request)
                if "refused" not in reports[version]:
                    images[version] = np.load(saved)
            print(f"| {case}, {seed} |", *row(reports, images), flush=True)


def row(reports: dict[str, dict[str, Any]], images: dict[str, np.ndarray]) -> list[str]:
    """The cells of a row behind the first."""
    for version, report in reports.items():
        if "refused" in report:
            print(f"refused {version}: {report['refused']}", file=sys.stderr)
    apart = "-"
    if len(images) == 2:
        difference = np.linalg.norm(images["now"] - images["before"])
        apart = f"{difference / np.linalg.norm(images['before']):.1e}"
    accuracies = (
        f"{report['accuracy']:.4f}" if "accuracy" in report else "refused"
        for report in reports.values()
    )
    return [f"{cell} |" for cell in (*accuracies, apart)]


if __name__ == "__main__":
    main()
