"""Slurm's jobs, run by submitit's executor for this machine."""

import os
import pathlib
import signal
import time

import pytest
from installation import needs_launchpad
from runs import distill, metrics

from kipper.common.settings import DistillSettings, LaunchSettings, RunSettings
from kipper.launch.cluster.slurm import import_submitit, submit
from kipper.server.status import read_status
from kipper.server.workdir import Workdir

pytestmark = pytest.mark.processes

STEPS = 200


def _executor(folder):
    executor = import_submitit().LocalExecutor(folder)
    executor.update_parameters(timeout_min=10, stderr_to_stdout=True)
    return executor


def _task_of(job):
    """The process id of a job's task, as opposed to submitit's controller."""
    wanted = f"SUBMITIT_LOCAL_JOB_ID={job.job_id}\0"
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text()
            if "submitit.core._submit" in words and wanted in (process / "environ").read_text():
                return int(process.name)
        except OSError:
            continue
    raise AssertionError("the task has ended")


def _wait_for(condition, what, jobs):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, (what, [job.stdout() for job in jobs])
        time.sleep(0.05)


@pytest.mark.slow
@needs_launchpad
def test_preempted_jobs_are_requeued_and_find_each_other_again(tmp_path):
    expected = distill(tmp_path / "quiet", f"--steps={STEPS}", "--num_workers=1")
    workdir = Workdir(tmp_path / "run")
    settings = RunSettings.of(
        DistillSettings,
        workdir=str(workdir.path),
        dataset="digits",
        learn_labels=True,
        block_support=4,
        block_target=300,
        steps=STEPS,
        num_workers=2,
        host="127.0.0.1",
    )
    executor = _executor(workdir.path / "slurm")
    jobs = submit(LaunchSettings(), settings, executor, executor)
    coordinator, worker = jobs[0], jobs[2]
    try:
        for job, step in ((coordinator, 10), (worker, 30)):
            _wait_for(lambda s=step: (read_status(workdir.status).step or 0) >= s, step, jobs)
            os.kill(_task_of(job), signal.SIGUSR2)
        for job in jobs:
            job.result()
    finally:
        for job in jobs:
            job.cancel()
    assert workdir.distilled.read_bytes() == expected
    assert metrics(workdir.path) == metrics(tmp_path / "quiet")
    for job in (worker, coordinator):
        assert f"Requeued job {job.job_id}" in job.stdout()
    assert (workdir.logs / "run.log").read_text().count("Workers can join at port") == 2
