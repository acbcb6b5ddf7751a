import os

import pytest

from kipper.common.cores import usable_cores
from kipper.common.settings import DistillSettings, RunSettings
from kipper.workers.worker import device_description


@pytest.fixture
def one_core():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_cores_are_those_that_this_process_may_use(one_core):
    assert usable_cores() == 1
    run = RunSettings.of(DistillSettings, workdir="unused", dataset="digits", num_workers=1)
    assert run.execution.threads_per_worker == 1
    assert "1 cores" in device_description()
