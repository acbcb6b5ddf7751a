"""When a run warns that it diverges, and when it ends for that reason."""

import pathlib

import numpy as np
import pytest
from tiny_runs import kip_settings, tiny_session

from kipper.common.errors import Diverged
from kipper.server.algorithms import algorithm_of
from kipper.server.divergence import Divergence
from kipper.server.status import read_status

IMAGES = np.ones((2, 3, 3, 1), np.float32)
VALUES = np.array([[0.5, -0.5], [-0.5, 0.5]])
NOTHING = 0.125  # the loss of predicting nothing


def test_images_that_grow_while_nothing_is_predicted_are_warned_of_once_then_end_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    divergence = Divergence(IMAGES)
    divergence.check(0, NOTHING, VALUES, IMAGES)  # a hard data set
    divergence.check(1, 0.5 * NOTHING, VALUES, 1e4 * IMAGES)  # odd, but it learns
    assert not caplog.records
    for step in (2, 3):
        divergence.check(step, NOTHING, VALUES, 10 * IMAGES)
    (warning,) = caplog.records
    assert "at step 2 support images are 10 times as large" in warning.getMessage()
    with pytest.raises(Diverged, match="at step 4 "):
        divergence.check(4, 2 * NOTHING, VALUES, 1e4 * IMAGES)


def test_a_run_that_has_diverged_is_failed_and_keeps_its_checkpoints(
    tmp_path: pathlib.Path,
) -> None:
    settings = kip_settings(tmp_path, steps=9, learning_rate=1e6)
    with pytest.raises(Diverged), tiny_session(settings) as session:
        algorithm_of(settings.compute).run(session, None)
    status = read_status(tmp_path / "status.json")
    assert status.state == "failed"
    assert "has diverged" in (status.message or "")
    assert (tmp_path / "checkpoints" / "step-000000").is_dir()
