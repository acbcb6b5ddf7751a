"""Runs on Ray clusters that lose nodes, messages and their driver: an undisturbed run's bits."""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import time

import psutil
import pytest
from runs import command, distill, metrics, wait_for_step

from kipper.launch.processes.exit_codes import ExitCode
from kipper.server.status import read_status

ray = pytest.importorskip("ray")

pytestmark = [
    pytest.mark.processes,
    pytest.mark.slow,
    # Ray forks this process to start a cluster's nodes, and at once executes something else.
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]

_STEPS = "--steps=200"


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("quiet") / "run"
    return distill(workdir, _STEPS, "--num_workers=1"), metrics(workdir)


@pytest.fixture
def start(monkeypatch):
    """Starts runs on Ray; kills them, and all that they started, at the end of the test."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # makes no token in this user's folder
    runs = []

    def start(workdir, *flags):
        run = command(workdir, _STEPS, "--launch=ray", "--num_workers=2", "--dashboard=none")
        runs.append(
            subprocess.Popen(
                [*run, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
        return runs[-1]

    yield start
    for run in runs:
        run.kill()
        run.communicate()


@pytest.fixture
def nodes(start):
    """A cluster whose head has no processors, with two nodes of one; adds and kills nodes.

    Nodes have addresses of their own: Ray connects a run to the node of its address, the head.
    """
    from ray.cluster_utils import Cluster

    own = {"object_store_memory": 100_000_000}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, **own},
    )
    addresses = (f"127.0.0.{number}" for number in itertools.count(2))
    try:
        yield (
            cluster,
            lambda: cluster.add_node(num_cpus=1, node_ip_address=next(addresses), **own),
        )
    finally:
        cluster.shutdown()


@pytest.fixture
def one_node():
    """Starts clusters that are one node, and ends them."""
    from ray.cluster_utils import Cluster

    own = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 100_000_000}
    begun = []

    def begin():
        begun.append(Cluster(initialize_head=True, head_node_args=own))
        return begun[-1]

    yield begin
    for cluster in begun:
        cluster.shutdown()


def _actors():
    """Processes of workers that this process, its runs or its clusters started."""
    return [each for each in psutil.Process().children(recursive=True) if _is_actor(each)]


def _is_actor(process):
    with contextlib.suppress(psutil.Error):
        return any(word.startswith("ray::WorkerActor") for word in process.cmdline())
    return False


def _finish(run, workdir, quiet):
    _, error = run.communicate(timeout=240)
    assert run.returncode == 0, error
    assert ((workdir / "distilled.npz").read_bytes(), metrics(workdir)) == quiet
    return (workdir / "logs" / "run.log").read_text()


def test_a_node_is_killed_and_another_one_comes(tmp_path, start, nodes, quiet):
    cluster, add = nodes
    doomed, _ = add(), add()
    workdir = tmp_path / "run"
    run = start(workdir, f"--ray_address={cluster.address}", "--threads=1")
    wait_for_step(workdir, 20, run)
    cluster.remove_node(doomed, allow_graceful=False)
    wait_for_step(workdir, 60, run)  # on the other node
    add()
    assert "another is made" in _finish(run, workdir, quiet)


@pytest.mark.parametrize("lost", ["raylet", "head", "all"])
def test_a_run_whose_ray_is_gone_ends_and_the_command_resumes(
    tmp_path, start, one_node, quiet, lost
):
    workdir = tmp_path / "run"
    cluster = one_node()
    # Else it would be over before the head is given up.
    slowed = ["--chaos=delay:100ms"] if lost == "head" else []
    run = start(workdir, f"--ray_address={cluster.address}", *slowed)
    wait_for_step(workdir, 10, run)
    if lost != "head":
        cluster.head_node.kill_raylet()
    if lost != "raylet":
        cluster.head_node.kill_gcs_server()
    _, said = run.communicate(timeout=120)
    assert run.returncode == ExitCode.TEMPORARY, said
    assert re.fullmatch("kipper: .* has not answered for .* the same command resumes .*\n", said)
    cluster.shutdown()
    cluster = one_node()
    _finish(start(workdir, f"--ray_address={cluster.address}"), workdir, quiet)


def test_all_takes_the_nodes_that_come_and_goes_on_without_those_that_go(
    tmp_path, start, nodes, quiet
):
    cluster, add = nodes
    first = add()
    workdir = tmp_path / "run"
    flags = [f"--ray_address={cluster.address}", "--threads=1", "--num_workers=all"]
    run = start(workdir, *flags, "--steps=100000")
    _wait_for_workers(workdir, 1)
    add()
    _wait_for_workers(workdir, 2)
    cluster.remove_node(first, allow_graceful=False)
    _wait_for_workers(workdir, 1)
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == ExitCode.INTERRUPTED
    add()
    _finish(start(tmp_path / "whole", *flags), tmp_path / "whole", quiet)


def test_a_worker_that_computes_otherwise_is_refused_and_the_run_goes_on(tmp_path, start, nodes):
    cluster, add = nodes
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("this needs two cores")
    add()
    os.sched_setaffinity(0, cores[:1])  # XLA's bits depend on the number of cores
    try:
        add()
    finally:
        os.sched_setaffinity(0, cores)
    workdir = tmp_path / "run"
    flags = [f"--ray_address={cluster.address}", "--threads=1", "--engine=banded_xla"]
    small = ["--architecture=convnet1", "--train_limit=100", "--test_limit=50"]
    run = start(workdir, *flags, *small, "--steps=100000")
    log, deadline = workdir / "logs" / "run.log", time.monotonic() + 120
    while not (log.exists() and "takes no part" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    step = read_status(workdir / "status.json").step or 0
    wait_for_step(workdir, step + 3, run)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == ExitCode.INTERRUPTED, said
    (refused,) = re.findall("The worker takes no part: (.*)", log.read_text())
    assert re.match(r"Worker worker-\d is refused: it computes by banded_xla by XLA ", refused)
    assert read_status(workdir / "status.json").workers == 1


def _wait_for_workers(workdir, number):
    deadline = time.monotonic() + 120
    while (status := read_status(workdir / "status.json")).workers != number:
        assert time.monotonic() < deadline, status
        time.sleep(0.1)


def test_a_run_that_attacks_itself_has_the_same_bits(tmp_path, start, quiet):
    workdir = tmp_path / "run"
    run = start(workdir, "--chaos=kill:10s,drop:0.02,corrupt:0.02,seed=1")
    _finish(run, workdir, quiet)


def test_a_killed_driver_leaves_no_actor_on_the_cluster_and_the_command_resumes(
    tmp_path, start, nodes, quiet
):
    cluster, add = nodes
    add(), add()
    flags = [f"--ray_address={cluster.address}", "--threads=1"]
    workdir = tmp_path / "run"
    run = start(workdir, *flags)
    wait_for_step(workdir, 80, run)
    assert len(_actors()) == 2
    run.kill()
    run.wait()
    deadline = time.monotonic() + 60
    while _actors():
        assert time.monotonic() < deadline, "an actor is left"
        time.sleep(0.1)
    _finish(start(workdir, *flags), workdir, quiet)
