"""The Ray that a run starts, where it does not start."""

import pytest

from kipper.common.errors import TemporaryError
from kipper.common.settings import ExecutionSettings

ray = pytest.importorskip("ray")


def test_a_ray_that_does_not_start_is_told_in_a_sentence(monkeypatch, tmp_path):
    from kipper.launch.ray import clusters

    def fail(**settings):
        raise Exception("The current node timed out during startup. This could happen because …")

    monkeypatch.setattr(ray, "init", fail)
    settings = ExecutionSettings(workdir=str(tmp_path), launch="ray", num_workers=2)
    with (
        pytest.raises(
            TemporaryError, match=r"Ray did not start on this machine \(The current node"
        ),
        clusters.connected(settings),
    ):
        pass
    assert not ray.is_initialized()
