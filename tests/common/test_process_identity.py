"""Which process a recorded process id means later."""

import dataclasses
import json
import signal
import subprocess
import sys

import pytest

from kipper.common.process_identity import ProcessIdentity, this_process

WHO = """
import dataclasses, json, sys
from kipper.common.process_identity import this_process
print(json.dumps(dataclasses.asdict(this_process())), flush=True)
sys.stdin.read()
"""


def test_the_same_process_is_signalled() -> None:
    command = [sys.executable, "-c", WHO]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout is not None
        identity = ProcessIdentity(**json.loads(other.stdout.readline()))
        assert identity.pid == other.pid
        assert str(identity) == f"process {other.pid} on {identity.host}"
        assert identity.lives()
        assert identity.send(signal.SIGTERM)
        assert other.wait() == -signal.SIGTERM
    assert not identity.lives()
    assert not identity.send(signal.SIGTERM)


@pytest.mark.parametrize(
    "changes",
    [{"started": 1}, {"boot": "another"}, {"boot": ""}, {"pid": 2**22 + 1}],
)
def test_another_process_with_the_same_id_is_not(changes: dict[str, object]) -> None:
    received = []
    before = signal.signal(signal.SIGUSR1, lambda *_: received.append(1))
    try:
        other = dataclasses.replace(this_process(), **changes)
        assert not other.lives()
        assert not other.send(signal.SIGUSR1)
        assert this_process().send(signal.SIGUSR1)
        assert received == [1]
    finally:
        signal.signal(signal.SIGUSR1, before)
