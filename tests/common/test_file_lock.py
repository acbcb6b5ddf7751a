"""Locks on files: who holds them, after crashes, in children, and where there are no locks."""

import dataclasses
import errno
import fcntl
import json
import os
import pathlib
import subprocess
import sys

import pytest

from kipper.common.file_lock import Taken, holder_of, locked
from kipper.common.process_identity import this_process

HOLD = """
import pathlib, sys
from kipper.common.file_lock import locked
with locked(pathlib.Path(sys.argv[1]), 0):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "lock"


def name_in(path: pathlib.Path, **changes: object) -> None:
    path.write_text(json.dumps({**dataclasses.asdict(this_process()), **changes}))


def test_the_refused_learn_who_holds_it(path: pathlib.Path) -> None:
    with locked(path, 0):
        with pytest.raises(Taken) as taken, locked(path, 0.05):
            pass
        assert taken.value.holder == holder_of(path) == this_process()
    assert holder_of(path) is None
    with locked(path, 0):
        pass


def test_another_process_is_named_and_its_death_frees_the_lock(path: pathlib.Path) -> None:
    command = [sys.executable, "-c", HOLD, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(Taken) as taken, locked(path, 0):
            pass
        assert taken.value.holder is not None
        assert taken.value.holder.pid == other.pid
        other.kill()
        with locked(path, 60):
            pass


@pytest.mark.filterwarnings("ignore:os.fork")  # JAX warns, if another test has imported it
def test_a_forked_process_does_not_keep_the_lock(path: pathlib.Path) -> None:
    reader, writer = os.pipe()
    with locked(path, 0):
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)  # until the parent closes the pipe
            os._exit(0)
        # As if this process were killed: its descriptor is closed without unlocking.
        descriptor = next(
            int(entry) for entry in os.listdir("/proc/self/fd") if _leads_to(entry, path)
        )
        with open(os.devnull) as other:
            os.dup2(other.fileno(), descriptor)
        with locked(path, 60):
            pass
    os.close(writer)
    os.close(reader)
    os.waitpid(child, 0)


def _leads_to(descriptor: str, path: pathlib.Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == str(path)
    except OSError:
        return False


@pytest.mark.parametrize("content", ["", "[]", "7", '{"host": "h", "pid": "x"}', "\0" * 9000])
def test_a_file_that_names_nobody_is_a_lock_too(path: pathlib.Path, content: str) -> None:
    path.write_text(content)
    assert holder_of(path) is None
    with locked(path, 0):
        assert holder_of(path) == this_process()


def test_a_symbolic_link_is_not_followed(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "thesis").write_text("mine")
    path.symlink_to("thesis")
    with pytest.raises(OSError, match="symbolic link"), locked(path, 0):
        pass
    assert (tmp_path / "thesis").read_text() == "mine"


def test_without_locks_in_the_file_system_a_live_holder_counts(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def has_none(descriptor: int, operation: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", has_none)
    name_in(path)
    with pytest.raises(Taken), locked(path, 0):
        pass
    name_in(path, started=this_process().started + 1)  # the id belongs to another process by now
    with locked(path, 0):
        pass
    assert "has no locks (Operation not supported)" in caplog.text
