"""Runs of real processes whose workers are actors, on a Ray that each run starts."""

import contextlib
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from installation import needs_ray
from transport_fixtures import certificates_of_run  # noqa: F401

from kipper.launch.link.transports.addresses import free_port
from kipper.launch.processes.exit_codes import ExitCode

pytestmark = [
    pytest.mark.processes,
    needs_ray,
    # Ray forks this process to start a cluster's nodes, and at once executes something else.
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]

_RUN = ("--dataset=digits", "--target_batch_size=40", "--dashboard=none", "--num_workers=2")
_ON_RAY = ("--launch=ray", "--threads=1")


def _command(workdir, *flags):
    return [sys.executable, "-m", "kipper", "distill", f"--workdir={workdir}", *_RUN, *flags]


def _bits(workdir):
    with np.load(workdir / "distilled.npz") as arrays:
        return {name: arrays[name].tobytes() for name in ("images", "labels")}


def _scores(workdir):
    return set((workdir / "validation.jsonl").read_text().splitlines())


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A run of 150 steps in one process."""
    workdir = tmp_path_factory.mktemp("runs") / "here"
    subprocess.run(_command(workdir, "--steps=150"), check=True, timeout=300)
    return workdir


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster that runs already, of one node."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # makes no token in this user's folder
        own = {"num_cpus": 5, "include_dashboard": False, "object_store_memory": 100_000_000}
        cluster = Cluster(initialize_head=True, head_node_args=own)
        yield cluster.address
        cluster.shutdown()


@pytest.fixture
def begin():
    """Begins runs on Ray; those that a test leaves are killed after it."""
    begun = []

    def begin(workdir, *flags):
        """A run that has made some steps, and the processes that belong to it."""
        process = subprocess.Popen(
            _command(workdir, *_ON_RAY, *flags),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        begun.append(process)
        checkpoints = pathlib.Path(workdir, "checkpoints")
        while len(list(checkpoints.glob("step-*"))) < 2:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        return process, psutil.Process(process.pid).children(recursive=True)

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def _left_of(processes):
    """The processes that run after two minutes; Ray's agents of a killed command need one or more.

    One that has ended, and that its parent has not reaped, does not run.
    """
    for _ in range(600):
        left = [each for each in processes if _runs(each)]
        if not left:
            break
        time.sleep(0.2)
    return left


def _addresses_of(processes):
    """Where they listen: whoever reaches Ray's ports can run programs."""
    found = set()
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            listening = [one for one in each.net_connections("inet") if one.status == "LISTEN"]
            found |= {one.laddr.ip for one in listening}
    assert found
    return found


def _is_agent(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return "gent" in process.name() or any("agent" in word for word in process.cmdline())
    return False


def _runs(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_actors_compute_the_bits_and_scores_of_one_process(here, tmp_path):
    done = subprocess.run(
        _command(tmp_path, *_ON_RAY, "--steps=150"), capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert _bits(tmp_path) == _bits(here)
    assert _scores(tmp_path) <= _scores(here)  # the evaluator takes the newest
    assert {path.name for path in (tmp_path / "logs").glob("*-?.log")} == {
        "worker-0.log",
        "worker-1.log",
        "evaluator-0.log",
    }


@pytest.mark.thorough
@pytest.mark.parametrize("actors", [1, 4])
def test_the_number_of_actors_changes_no_bit(here, cluster, tmp_path, actors):
    flags = [*_ON_RAY, f"--ray_address={cluster}", f"--num_workers={actors}", "--steps=150"]
    subprocess.run(_command(tmp_path, *flags), check=True, timeout=300)
    assert _bits(tmp_path) == _bits(here)
    joined = re.findall(
        "worker=(worker-.) The worker joined", (tmp_path / "logs/run.log").read_text()
    )
    assert set(joined) == {f"worker-{number}" for number in range(actors)}


@pytest.mark.thorough
def test_a_worker_that_is_no_actor_joins_by_the_port(here, cluster, certificates, tmp_path):
    port, secure = free_port(), ["--transport=grpc_tls", f"--certificates={certificates}"]
    joining = f"--coordinator=localhost:{port}"
    words = [sys.executable, "-m", "kipper", "worker", joining, "--name=by-hand"]
    flags = [*_ON_RAY, f"--ray_address={cluster}", "--num_workers=1", f"--port={port}"]
    flags += ["--steps=150", "--chaos=delay:20ms"]  # long enough for both to join
    with subprocess.Popen([*words, *secure], stderr=subprocess.PIPE, text=True) as worker:
        subprocess.run(_command(tmp_path, *flags, *secure), check=True, timeout=300)
        _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said
    assert _bits(tmp_path) == _bits(here)
    log = (tmp_path / "logs/run.log").read_text()
    assert {"by-hand", "worker-0"} <= set(re.findall(r"worker=(\S+) The worker joined", log))


def test_an_actor_that_is_killed_is_replaced_and_changes_no_bit(begin, here, tmp_path):
    process, others = begin(tmp_path, "--steps=150")
    actors = [each for each in others if "WorkerActor" in each.name()]
    assert len(actors) >= 2
    assert _addresses_of(others) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    actors[0].kill()
    assert process.wait(timeout=300) == 0, process.stderr.read()
    assert "another is made" in (tmp_path / "logs/run.log").read_text()
    assert _bits(tmp_path) == _bits(here)


@pytest.mark.thorough
def test_a_killed_command_leaves_no_process_and_the_run_resumes(begin, here, tmp_path):
    process, others = begin(tmp_path, "--steps=150")
    assert len(others) > 3
    process.send_signal(signal.SIGKILL)
    process.wait()
    # Ray's agents, which ask its head for a minute before they give up, are for the slow test.
    assert _left_of([each for each in others if not _is_agent(each)]) == []
    subprocess.run(_command(tmp_path, *_ON_RAY, "--steps=150"), check=True, timeout=300)
    assert _bits(tmp_path) == _bits(here)


@pytest.mark.slow
def test_a_killed_command_leaves_not_even_an_agent_of_ray(begin, tmp_path):
    process, others = begin(tmp_path, "--steps=100000")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert _left_of(others) == []


def test_ctrl_c_stops_after_the_step_and_leaves_no_process(begin, tmp_path):
    process, others = begin(tmp_path, "--steps=100000")
    for each in (process, *others):  # as a terminal does, to all at once
        each.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == ExitCode.INTERRUPTED
    assert "the same command resumes" in process.stderr.read()
    assert _left_of(others) == []
