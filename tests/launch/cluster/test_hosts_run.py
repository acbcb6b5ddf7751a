"""Runs on three addresses of this machine as hosts, by a stand-in for ssh."""

import os
import pathlib
import signal
import subprocess
import time

import pytest
from runs import command, distill, metrics, nodes_of, wait_for_step
from transport_fixtures import flags_between_hosts

from kipper.launch.link.certificates import make_certificates

pytestmark = [pytest.mark.processes, pytest.mark.thorough]

HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
# Like ssh: drops the host, and has a shell read the rest as one command.
SSH = '#!/bin/sh\nshift\nexec sh -c "$*"\n'


@pytest.fixture
def launched(tmp_path):
    """Starts runs on the hosts; kills their processes at the end of the test."""
    (tmp_path / "hosts").write_text("\n".join(HOSTS))
    ssh = tmp_path / "ssh"
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    launches = []

    def launch(workdir, *flags):
        start, words = command(workdir, *flags), [f"--cluster=hosts:{tmp_path / 'hosts'}"]
        at = start.index("distill")
        launches.append(
            subprocess.Popen(
                [
                    *start[:at],
                    "launch",
                    *words,
                    f"--ssh={ssh}",
                    "--num_workers=3",
                    *start[at + 1 :],
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return launches[-1]

    yield launch
    for process in launches:
        process.kill()
        process.communicate()


def _processes(workdir, words):
    """Process ids of kipper, not of tethers, with these words in their command line."""
    found = []
    for pid in nodes_of(workdir):
        line = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if "kipper.launch.cluster.tether" not in line and set(words) <= set(line):
            found.append(pid)
    return found


def _wait_until_gone(workdir):
    deadline = time.monotonic() + 60
    while nodes_of(workdir):
        assert time.monotonic() < deadline, "an orphan is left"
        time.sleep(0.1)


def test_a_worker_and_the_coordinator_are_killed_and_the_bits_are_the_same(tmp_path, launched):
    quiet, workdir = tmp_path / "quiet", tmp_path / "run"
    expected = distill(quiet, "--steps=200", "--num_workers=1")
    run = launched(workdir, "--steps=200", *flags_between_hosts(tmp_path / "certificates"))
    for step, words in ((20, ["worker", "--name=worker-1"]), (60, ["distill"])):
        wait_for_step(workdir, step, run)
        (pid,) = _processes(workdir, words)
        os.kill(pid, signal.SIGKILL)
    out, error = run.communicate(timeout=240)
    assert run.returncode == 0, error
    assert (workdir / "distilled.npz").read_bytes() == expected
    assert metrics(workdir) == metrics(quiet)
    assert "\nstep      0" in out
    assert "(distilled)" in out
    assert "worker-1 on 127.0.0.3 was killed by SIGKILL after" in error
    assert "coordinator-0 on 127.0.0.2 was killed by SIGKILL after" in error
    joined = (workdir / "logs" / "run.log").read_text()
    for host in HOSTS:
        assert f"says hello from {host}:" in joined
    assert nodes_of(workdir) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_when_the_launch_ends(tmp_path, launched, how):
    make_certificates(str(tmp_path / "certificates"))
    tls = ["--transport=grpc_tls", f"--certificates={tmp_path / 'certificates'}"]
    workdir = tmp_path / "run"
    run = launched(workdir, "--steps=100000", *tls)
    wait_for_step(workdir, 3, run)
    os.killpg(run.pid, how)
    _, error = run.communicate(timeout=120)
    _wait_until_gone(workdir)
    if how == signal.SIGINT:
        assert run.returncode == 130, error
        assert error.splitlines()[-1].startswith("kipper: ")
        assert "the same command resumes" in error.splitlines()[-1]
        assert list((workdir / "checkpoints").glob("step-*"))
