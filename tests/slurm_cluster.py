"""A Slurm cluster of three nodes on this machine, for tests of the real thing."""

import functools
import getpass
import os
import pathlib
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable

from kipper.launch.link.transports.addresses import free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
NODES = ("n1", "n2", "n3")

# All nodes are this machine: no accounting, no cgroups, and more CPUs than there are.
CONFIGURATION = """
ClusterName=kipper
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=sched_interval=1,bf_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=9
"""


def missing() -> list[str]:
    """The programs of Slurm and munge that are not installed."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


class SlurmCluster:
    """The daemons; `environment` leads Slurm's commands to them."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.pathsep.join([os.environ["PATH"], "/usr/sbin"]),
        }

    def start(self) -> None:
        """Starts the daemons and waits until all nodes are idle."""
        folder = self._folder
        (folder / "state").mkdir()
        lines = [CONFIGURATION.format(folder=folder, port=free_port(), user=getpass.getuser())]
        for name in NODES:
            (folder / f"spool-{name}").mkdir()
            where = f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1"
            lines.append(f"{where} Port={free_port()} CPUs=16 RealMemory=4000 State=UNKNOWN")
        (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
        key = folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(1024))
        names = ("key", "pid", "log", "seed")
        files = [f"--{name}-file={folder}/munge.{name}" for name in names]
        socket = folder / "munge.socket"
        self._start("munged", "--foreground", "--force", f"--socket={socket}", *files)
        _wait_for(socket.exists, "munged")
        self._start("slurmctld", "-D")
        for name in NODES:
            self._start("slurmd", "-D", "-N", name)
        states = ("sinfo", "-h", "-N", "-p", "all", "-o", "%t")
        _wait_for(lambda: self.call(*states).split() == ["idle"] * len(NODES), "nodes")

    def call(self, *command: str) -> str:
        """Runs a command of Slurm; returns its output, empty if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    def begin_now(self, *jobs: str) -> None:
        """Has requeued jobs begin without the two minutes that Slurm waits."""
        for job in jobs:
            _wait_for(functools.partial(self._is_pending, job), job)
            self.call("scontrol", "update", f"JobId={job}", "StartTime=now")

    def state(self, job: str) -> str:
        return self.call("squeue", "-h", "-j", job, "-o", "%T")

    def _is_pending(self, job: str) -> bool:
        return self.state(job) == "PENDING"

    def stop(self) -> None:
        """Ends all jobs and daemons."""
        self.call("scancel", f"--user={getpass.getuser()}")
        deadline = time.monotonic() + 30
        while self.call("squeue", "-h") and time.monotonic() < deadline:
            time.sleep(0.2)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            daemon.wait(30)

    def _start(self, *command: str) -> None:
        with open(self._folder / "daemons.log", "ab") as log:
            self._daemons.append(
                subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
            )


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
