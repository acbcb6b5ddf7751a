"""Event files, read by TensorBoard itself."""

import json
import sys
import types

import numpy as np
import pytest


def accumulated(folder):
    """TensorBoard's accumulator of a folder of event files; skips the test without TensorBoard."""
    # With this module TensorBoard does not import TensorFlow, which takes ten seconds.
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
    reading = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard is not installed",
    )
    accumulator = reading.EventAccumulator(str(folder), {"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def curves_agree_with_records(workdir):
    """Whether a run's event files have the loss and scores of its records, in order."""
    found = accumulated(workdir / "tensorboard")
    for name, tags in (
        ("metrics", {"loss": "loss", "test_accuracy": "accuracy/test"}),
        ("validation", {"validation_accuracy": "accuracy/validation"}),
    ):
        lines = (workdir / f"{name}.jsonl").read_text().splitlines()
        for field, tag in tags.items():
            records = [(r["step"], np.float32(r[field])) for r in map(json.loads, lines)]
            if sorted(curve(found, tag)) != records:
                return False
    return True


def curve(accumulator, tag):
    """(step, value) of each point."""
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]
