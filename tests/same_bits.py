"""Prints a hash of everything that a coordinator computes with matrices, for test_same_bits.py."""

import hashlib
import sys

import numpy as np

from kipper.common import linalg
from kipper.common.preprocessing import fit_preprocessing
from kipper.server import evaluation, krr, label_solve, spectrum
from kipper.server.losses import CrossEntropy


def images(count, seed):
    """Images (count, 8, 8, 3) whose neighbouring pixels are alike."""
    noise = np.random.default_rng(seed).random((count, 8, 8, 3))
    return ((noise + np.roll(noise, 1, axis=1)) / 2).astype(np.float32)


def results():
    """Names and arrays: preprocessing, regression, Label Solve, scores, eigenvalues."""
    raw = images(700, 0)
    for recipe in ("standard", "zca"):
        fitted = fit_preprocessing(recipe, raw)
        for name, array in fitted.arrays().items():
            if array.dtype.kind == "f":
                yield f"{recipe} {name}", array
        whitened = fitted.apply(raw)
        yield f"{recipe} rows", whitened
        yield f"{recipe} pixels", fitted.invert(whitened[:40])
    support, target = whitened[:90].reshape(90, -1), whitened[90:].reshape(610, -1)
    support[-1] = support[0]  # K_ss and S have a null space
    k_ss, k_ts = (kernel(rows, support) for rows in (support, target))
    classes = np.arange(610) % 10
    y_t = np.eye(10)[classes] - 0.1
    y_s = np.eye(10)[np.arange(90) % 10] - 0.1
    found = krr.regress(k_ss, k_ts, y_s, y_t, 1e-6)
    yield "loss", np.array(found.loss)
    yield from zip(("k_ss", "k_ts", "labels"), found.cotangents[:3], strict=True)
    classified = krr.regress(k_ss, k_ts, y_s, y_t, 1e-6, CrossEntropy(np.array([-2.3])))
    yield "cross-entropy", np.array(classified.loss)
    yield from zip(
        ("classified k_ss", "classified k_ts", "classified labels", "temperature"),
        classified.cotangents,
        strict=True,
    )
    moments = label_solve.batch_moments(k_ts, y_t)
    for convention in ("paper", "notebook"):
        labels = label_solve.solve_labels(k_ss, moments, 1e-6, convention)
        yield f"{convention} labels", labels
        coefficients = krr.Factor(k_ss, 1e-6).solve(labels)
        yield f"{convention} loss", np.array(label_solve.target_loss(moments, coefficients))
    for expected in (classes, y_t):
        score = evaluation.score_of(linalg.matmul(k_ts, coefficients), expected)
        yield "score", np.array([score.value, score.loss])
    yield "spectrum", linalg.eigvalsh(k_ss)
    for number in spectrum.condition_numbers(linalg.eigvalsh(k_ss), 1e-6).values():
        yield "condition", np.array(number)


def kernel(rows, columns):
    """A polynomial kernel (n, m), float64; powers and exponentials differ between processors."""
    base = 1 + linalg.matmul(rows.astype(np.float64), columns.T.astype(np.float64)) / 10
    return base * base * base


if __name__ == "__main__":
    if len(sys.argv) > 1:
        linalg.instruction_sets = lambda: (sys.argv[1],)
    assert linalg.unavailable() is None
    for name, array in results():
        assert np.isfinite(array).all(), name
        print(name, array.dtype, hashlib.sha256(np.ascontiguousarray(array)).hexdigest()[:16])
