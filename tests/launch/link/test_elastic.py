"""Workers and a coordinator that join, leave, die and return during a run."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest
from installation import needs_launchpad
from runs import command, distill, nodes_of, wait_for_step

from kipper.launch.link.certificates import make_certificates
from kipper.launch.link.transports.addresses import free_port

pytestmark = [pytest.mark.processes, pytest.mark.thorough]

STEPS = "--steps=300"


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The bits of an undisturbed run."""
    return distill(tmp_path_factory.mktemp("runs") / "quiet", STEPS, "--num_workers=1")


@pytest.fixture(params=["grpc_tls", pytest.param("courier", marks=needs_launchpad)])
def transport_flags(request, tmp_path):
    if request.param == "courier":
        return ["--transport=courier"]
    make_certificates(str(tmp_path / "certificates"))
    return ["--transport=grpc_tls", f"--certificates={tmp_path / 'certificates'}"]


@pytest.fixture
def started():
    """Starts processes, which do not outlive the test."""
    processes = []

    def start(arguments, **options):
        processes.append(subprocess.Popen(arguments, text=True, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _worker(port, name, flags):
    address = f"--coordinator=localhost:{port}"
    return [sys.executable, "-m", "kipper", "worker", address, f"--name={name}", *flags]


def _wait(condition, what, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.02)


def _status(workdir):
    try:
        return json.loads((workdir / "status.json").read_text())
    except (OSError, ValueError):
        return {}


def _times_joined(workdir, name):
    log = workdir / "logs" / "run.log"
    return log.read_text().count(f"worker={name} The worker joined:") if log.exists() else 0


def test_workers_and_coordinator_come_and_go(quiet, tmp_path, started, transport_flags):
    port, workdir = free_port(), tmp_path / "run"
    first = started(_worker(port, "first", transport_flags))  # there is no coordinator yet
    run = command(workdir, STEPS, "--num_workers=0", f"--port={port}", *transport_flags)
    coordinator = started(run, stdout=subprocess.DEVNULL)
    wait_for_step(workdir, 3, coordinator)
    second = started(_worker(port, "second", transport_flags))
    _wait(lambda: _times_joined(workdir, "second"), "the second worker's joining")

    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 130
    left = "worker=first The worker is out of the run: it left"
    _wait(lambda: left in _log(workdir), "its leaving")
    wait_for_step(workdir, _status(workdir)["step"] + 3, coordinator)

    coordinator.kill()
    coordinator.wait()
    assert second.poll() is None
    finished = subprocess.run(run, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert _times_joined(workdir, "second") == 2
    assert second.wait(60) == 0
    assert (workdir / "distilled.npz").read_bytes() == quiet


def _log(workdir):
    return (workdir / "logs" / "run.log").read_text()


@needs_launchpad
@pytest.mark.slow  # test_chaos.py tests the same more often
def test_a_killed_worker_of_a_local_program_is_started_again(quiet, tmp_path, started):
    run = started(command(tmp_path, STEPS, "--launch=local_mp"), stdout=subprocess.DEVNULL)
    wait_for_step(tmp_path, 3, run)
    os.kill(_process_named("--name=worker-0", tmp_path), signal.SIGKILL)
    assert run.wait(300) == 0
    assert (
        "Worker worker-0 was killed by SIGKILL after"
        in (tmp_path / "logs" / "worker" / "0").read_text()
    )
    assert (tmp_path / "distilled.npz").read_bytes() == quiet
    assert nodes_of(tmp_path) == []


def _process_named(argument, workdir):
    for pid in nodes_of(workdir):
        if argument in pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
            return pid
    return pytest.fail(f"there is no process {argument}")


def _wait_for_stopping(coordinator):
    """Reads stderr until the first signal was heard: two at once may count as one."""
    for line in coordinator.stderr:
        if "Stopping after the current step" in line:
            return
    pytest.fail("the coordinator ended without a word")


def test_one_request_to_stop_waits_for_the_step_and_two_do_not(tmp_path, started):
    port, workdir = free_port(), tmp_path / "run"
    make_certificates(str(tmp_path / "certificates"))
    flags = ["--transport=grpc_tls", f"--certificates={tmp_path / 'certificates'}"]
    run = command(workdir, "--steps=20000", "--num_workers=0", f"--port={port}", *flags)
    coordinator = started(run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    worker = started(_worker(port, "only", flags))
    wait_for_step(workdir, 3, coordinator)

    worker.send_signal(signal.SIGSTOP)  # so that its step does not end
    time.sleep(0.5)
    step = _status(workdir)["step"]
    coordinator.send_signal(signal.SIGTERM)
    _wait_for_stopping(coordinator)
    with pytest.raises(subprocess.TimeoutExpired):
        coordinator.wait(2)
    worker.send_signal(signal.SIGCONT)
    assert coordinator.wait(60) == 130
    assert worker.wait(60) == 130  # the run may go on
    assert _status(workdir)["state"] == "interrupted"
    assert _newest_checkpoint(workdir) > step

    coordinator = started(run, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    worker = started(_worker(port, "only", flags))
    wait_for_step(workdir, step + 3, coordinator)
    worker.send_signal(signal.SIGSTOP)
    coordinator.send_signal(signal.SIGTERM)
    _wait_for_stopping(coordinator)
    coordinator.send_signal(signal.SIGTERM)
    assert coordinator.wait(60) == 130
    assert _newest_checkpoint(workdir) >= step + 3


def test_a_second_request_ends_a_worker_whatever_it_waits_for(tmp_path, started):
    make_certificates(str(tmp_path / "certificates"))
    flags = ["--transport=grpc_tls", f"--certificates={tmp_path / 'certificates'}"]
    with socket.create_server(("", free_port())) as coordinator:  # one that never answers
        coordinator.settimeout(60)
        worker = started(_worker(coordinator.getsockname()[1], "only", flags))
        connections = [coordinator.accept() for _ in ("whether somebody listens", "hello")]
        worker.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(1)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 130
        for connection, _ in connections:
            connection.close()


def _newest_checkpoint(workdir):
    return max(int(path.name[5:]) for path in (workdir / "checkpoints").glob("step-*"))
