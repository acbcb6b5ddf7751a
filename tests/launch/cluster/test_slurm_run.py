"""A run under a real Slurm: requeued, preempted, cancelled."""

import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from runs import FLAGS, distill, metrics
from slurm_cluster import SlurmCluster, missing
from transport_fixtures import flags_between_hosts

from kipper.server.status import read_status
from kipper.server.workdir import Workdir

pytestmark = [
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"Slurm is not installed: {', '.join(missing())}"),
]

STEPS = 300


@pytest.fixture
def slurm(tmp_path: pathlib.Path) -> Iterator[SlurmCluster]:
    (tmp_path / "slurm").mkdir()
    cluster = SlurmCluster(tmp_path / "slurm")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _kipper(slurm: SlurmCluster, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "kipper", *arguments],
        env=slurm.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def _wait_for(condition: Callable[[], bool], what: str, folder: pathlib.Path) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        logs = [path.read_text()[-2000:] for path in folder.glob("slurm/*.log")]
        assert time.monotonic() < deadline, (what, logs)
        time.sleep(0.1)


def test_a_run_survives_what_slurm_does_to_its_jobs(
    tmp_path: pathlib.Path, slurm: SlurmCluster
) -> None:
    expected = distill(tmp_path / "quiet", f"--steps={STEPS}", "--num_workers=1")
    workdir = Workdir(tmp_path / "run")
    flags = flags_between_hosts(tmp_path / "certificates")
    launch = ["launch", "--cluster=slurm", "--gpus_per_worker=0", *FLAGS[1:], f"--steps={STEPS}"]
    launch += [f"--workdir={workdir.path}", "--num_workers=2", "--host=127.0.0.1", *flags]
    code, said = _kipper(slurm, *launch)
    assert code == 0, said
    head, workers = re.findall(r"job (\d+)", said)

    def reaches(step: int) -> Callable[[], bool]:
        return lambda: (read_status(workdir.status).step or 0) >= step

    _wait_for(reaches(20), "step 20", workdir.path)
    code, said = _kipper(slurm, *launch)
    assert (code, f"job {head} is RUNNING" in said) == (2, True), said
    slurm.call("scontrol", "requeue", head)
    _wait_for(lambda: slurm.state(head) == "PENDING", "the requeue", workdir.path)
    code, said = _kipper(slurm, *launch)
    assert (code, f"job {head} is PENDING" in said) == (2, True), said
    _, said = _kipper(slurm, "status", str(workdir.path))
    assert f"waiting for Slurm's job {head}, which is PENDING" in said
    assert "to resume" not in said
    slurm.begin_now(head)
    _wait_for(reaches(60), "step 60", workdir.path)
    # Slurm's warning, as before a time limit.
    slurm.call("scancel", "--batch", "--signal=USR2", f"{workers}_1")
    slurm.begin_now(f"{workers}_1")
    _wait_for(reaches(120), "step 120", workdir.path)
    slurm.call("scancel", "--batch", "--signal=USR2", head)
    slurm.begin_now(head)
    _wait_for(lambda: not slurm.call("squeue", "-h"), "the end", workdir.path)
    assert workdir.distilled.read_bytes() == expected
    assert metrics(workdir.path) == metrics(tmp_path / "quiet")
    log = (workdir.path / "slurm" / f"coordinator-{head}.log").read_text()
    assert log.count("\nstep ") > 3
    assert "DUE TO JOB REQUEUE" in log  # the first life's words are still there
    assert log.count("Slurm has this job begin again.") == 1
    code, said = _kipper(slurm, *launch)
    assert code == 0, said  # the run is over, and the same command may be given again
