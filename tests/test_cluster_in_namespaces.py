"""The example cluster: a worker is cut off and returns, the bits stay, no process is left."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from installation import needs_launchpad

SCRIPT = pathlib.Path(__file__).parent.parent / "examples" / "cluster_in_namespaces.sh"
KIPPER = pathlib.Path(sys.executable).parent / "kipper"


def _can_make_namespaces():
    tools = ("ip", "unshare", "setpriv")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        return False
    made = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc"]
    tried = [*made, "ip", "link", "add", "bridge", "type", "bridge"]
    return subprocess.run(tried, capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(
    not _can_make_namespaces(), reason="network namespaces need root, iproute2 and util-linux"
)


def _start(folder):
    """Starts the script in a shell that handles SIGINT as in a terminal."""
    return subprocess.Popen(
        ["bash", str(SCRIPT), str(folder)],
        env={**os.environ, "KIPPER": str(KIPPER)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def _processes_of(folder):
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _namespaces():
    return subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
@needs_launchpad
@needs_namespaces
def test_a_worker_cut_off_and_back_changes_no_bit(tmp_path):
    before = _namespaces()
    script = _start(tmp_path)
    printed, _ = script.communicate(timeout=580)
    assert script.returncode == 0, printed
    first, second = re.findall(r"^([0-9a-f]{64})  ", printed, re.MULTILINE)
    assert first == second
    steps = [int(n) for n in re.findall(r"^step (\d+): west", printed, re.MULTILINE)]
    assert len(steps) == 3
    assert steps == sorted(steps)
    assert steps[1] > steps[0] + 5  # the other workers continued
    assert _processes_of(tmp_path) == []
    assert _namespaces() == before


@pytest.mark.slow
@needs_launchpad
@needs_namespaces
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_script_leaves_no_process(tmp_path, end):
    before = _namespaces()
    script = _start(tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "north.log").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(script.pid, end)
    script.communicate(timeout=30)
    assert script.returncode in (130, -signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _processes_of(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert _namespaces() == before


def test_it_needs_root_and_says_so(tmp_path):
    # The script checks this first, so it makes nothing.
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    ordinary = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    text = SCRIPT.read_text()  # the checkout may be closed to others
    refused = subprocess.run([*ordinary, "bash", "-s"], input=text, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr == "Run this as root: it creates network namespaces.\n"
