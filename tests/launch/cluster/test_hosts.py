"""The hosts file, the distribution of processes, and the arguments of ssh."""

import pathlib
import shlex
import subprocess
import sys

import pytest

from kipper.common.errors import UserError
from kipper.common.settings import DistillSettings, LaunchSettings, RunSettings
from kipper.launch.cluster import hosts
from kipper.launch.main import run
from kipper.server.workdir import Workdir

FILE = """
# the head
node1
me@node2  slots=2
node3 gpus=2 # two of them
"""


def _settings(**given):
    return RunSettings.of(
        DistillSettings, **{"workdir": "/runs/a", "dataset": "digits", "port": 7070, **given}
    )


def _read(tmp_path, text):
    path = tmp_path / "hosts"
    path.write_text(text)
    return hosts.read_hosts(str(path))


TLS = ("--transport=grpc_tls", "--certificates=certificates")


def test_a_hosts_file_is_read(tmp_path):
    assert _read(tmp_path, FILE) == [
        hosts.Host("node1"),
        hosts.Host("me@node2", 2),
        hosts.Host("node3", 2, has_gpus=True),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "names no host"),
        ("# nothing\n", "names no host"),
        ("node1\nnode2 cores=4", "Line 2 of .* has 'cores=4' after node2; it may have slots=N"),
        ("node1 slots=0", "has 'slots=0' after node1"),
        ("node1 slots=2 gpus=2", "has 'slots=2 gpus=2' after node1"),
        ("-oProxyCommand=evil", "not a host name"),
        ("node1;reboot", "not a host name"),
        ("node1\nme@node1", "Line 2 of .* repeats node1"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, sentence):
    with pytest.raises(UserError, match=sentence):
        _read(tmp_path, text)


def test_a_missing_or_binary_file_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        hosts.read_hosts(str(tmp_path / "none"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read: not text"):
        hosts.read_hosts(str(tmp_path / "binary"))


def test_the_coordinator_goes_to_the_first_host_and_workers_round_all(tmp_path):
    processes = hosts.make_processes(_read(tmp_path, FILE), _settings(num_workers=5))
    assert [(process.name, process.host) for process in processes] == [
        ("coordinator-0", "node1"),
        ("worker-0", "node1"),
        ("worker-1", "me@node2"),
        ("worker-2", "node3"),
        ("worker-3", "me@node2"),
        ("worker-4", "node3"),
    ]
    assert "--coordinator=node1:7070" in processes[2].arguments
    assert "--advertise_host=node2" in processes[2].arguments
    assert not {"--device", "--needs_gpu"} & {a.split("=")[0] for a in processes[2].arguments}
    assert {"--device=1", "--needs_gpu"} <= set(processes[5].arguments)


def test_more_workers_than_slots_are_refused(tmp_path):
    with pytest.raises(UserError, match="--num_workers is 6, but the hosts have 5 slots"):
        hosts.make_processes(_read(tmp_path, FILE), _settings(num_workers=6))


def test_quoting_survives_two_shells(tmp_path):
    folder = tmp_path / "with 'quotes' and $HOME; in it"
    folder.mkdir()
    echo = tmp_path / "py thon"
    echo.write_text('#!/bin/sh\npwd\nfor word; do echo "<$word>"; done\n')
    echo.chmod(0o755)
    settings = _settings(dataset="npz:it's `a` $file.npz", num_workers=1)
    process = hosts.make_processes([hosts.Host("node1")], settings)[0]
    launch = LaunchSettings(ssh="ssh -p 22", python=str(echo), directory=str(folder))
    *ssh, command = hosts.remote_command(process, launch)
    assert ssh == ["ssh", "-p", "22", "node1"]
    # ssh hands the command to the login shell of the user.
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True).stdout
    assert said.splitlines()[0] == str(folder)
    assert "<--dataset=npz:it's `a` $file.npz>" in said.splitlines()
    assert said.splitlines()[1:7] == [
        "<-m>",
        "<kipper.launch.cluster.tether>",
        f"<{echo}>",
        "<-m>",
        "<kipper>",
        "<distill>",
    ]


def test_a_dry_run_prints_commands_and_writes_nothing(tmp_path, capsys):
    (tmp_path / "hosts").write_text("node1\nnode2\n")
    workdir = tmp_path / "run"
    flags = [f"--workdir={workdir}", "--dataset=digits", "--num_workers=2", "--port=7070"]
    flags.append(f"--python={sys.executable}")  # else a Python without Courier would be refused
    assert run(["launch", f"--cluster=hosts:{tmp_path / 'hosts'}", "--dry_run", *flags]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0::2] == [
        "coordinator-0 on node1:",
        "worker-0 on node1:",
        "worker-1 on node2:",
    ]
    *ssh, host, command = shlex.split(said[-1])
    assert (ssh[0], host) == ("ssh", "node2")
    assert command.startswith(f"cd {pathlib.Path.cwd()} && exec {sys.executable} -m kipper.launch")
    assert command.endswith(
        "-m kipper worker --coordinator=node1:7070 --advertise_host=node2 --name=worker-1"
    )
    assert not workdir.exists()


def test_a_host_that_lets_nobody_in_is_one_sentence(tmp_path, capsys):
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho me@$1: Permission denied '(publickey).' >&2\nexit 255\n")
    ssh.chmod(0o755)
    (tmp_path / "hosts").write_text("node1\n")
    flags = [f"--workdir={tmp_path / 'run'}", "--dataset=digits", "--num_workers=1"]
    cluster = f"--cluster=hosts:{tmp_path / 'hosts'}"
    assert run(["launch", cluster, f"--ssh={ssh}", *flags, *TLS]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        "kipper: Host node1 cannot be reached (me@node1: Permission denied (publickey)); "
        f"{ssh} must let you in without a password."
    )


@pytest.mark.parametrize("holding", ["claimed", "locked", "launched"])
def test_a_live_run_in_the_workdir_keeps_its_logs(tmp_path, capsys, holding):
    workdir = Workdir(tmp_path / "run")
    workdir.make_logs()
    log = workdir.logs / "coordinator-0.log"
    log.write_text("of the live run")
    (tmp_path / "hosts").write_text("node1\n")
    flags = [f"--workdir={workdir.path}", "--dataset=digits", "--num_workers=1"]
    with getattr(workdir, holding)():
        cluster = f"--cluster=hosts:{tmp_path / 'hosts'}"
        assert run(["launch", cluster, "--ssh=false", *flags, *TLS]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("kipper: Another kipper process (process ")
    assert log.read_text() == "of the live run"
