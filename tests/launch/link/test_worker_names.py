"""Workers that are given no name."""

import pathlib
import re
import socket
import subprocess
import sys

import pytest

from kipper.launch.link import worker_names

SCRIPT = """
from kipper.launch.link.worker_names import own_name
print(own_name(), flush=True)
input()
"""


def start() -> tuple["subprocess.Popen[str]", str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.processes
def test_workers_of_a_host_differ_and_one_that_returns_keeps_its_name() -> None:
    processes, names = zip(*(start() for _ in range(3)), strict=True)
    again = None
    try:
        assert len(set(names)) == 3
        assert all(re.fullmatch(r".+-[0-9a-f]{6}-\d+", name) for name in names)
        assert all(name.startswith(socket.gethostname()) for name in names)
        processes[1].kill()
        processes[1].wait()
        again, name = start()
        assert name == names[1]
    finally:
        for process in (*processes, again):
            if process is not None:
                process.kill()
                process.communicate()


def test_containers_with_one_host_name_have_different_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[socket.socket] = []
    monkeypatch.setattr(worker_names, "_held", held)
    seen = set()
    for container in ("mnt:[4026531840]", "mnt:[4026532999]"):
        monkeypatch.setattr(worker_names.os, "readlink", lambda _, inode=container: inode)
        seen.add(worker_names.own_name())
    for boot in ("a", "b"):  # on another machine, namespaces may have the same numbers
        monkeypatch.setattr(pathlib.Path, "read_text", lambda _, text=boot: text)
        seen.add(worker_names.own_name())
    for place in held:
        place.close()
    assert len(seen) == 4
