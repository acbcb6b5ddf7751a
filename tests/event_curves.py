"""Event files as TensorBoard itself reads them."""

import json
import sys
import types

import numpy as np
import pytest


def accumulated(folder):
    """TensorBoard's accumulator of a folder of event files; skips the test where it is not."""
    # By this name it is told to do without TensorFlow, whose import takes ten seconds.
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
    reading = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TensorBoard comes with TensorFlow, which Python 3.10 has",
    )
    accumulator = reading.EventAccumulator(str(folder), {"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def curves_agree_with_records(workdir):
    """Whether the loss and the scores of a run's event files are those of its records, in order."""
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
