"""Output that outlives its reader and any encoding."""

import errno
import os
import subprocess
import sys

import pytest

from kipper.launch.processes.streams import LossyText


def test_what_nobody_reads_is_dropped():
    ours, theirs = os.pipe()
    os.close(ours)
    with LossyText.to(theirs, "wb", {errno.EPIPE}, "utf-8") as stream:
        for _ in range(3):
            assert stream.write("a line\n") == 7
            stream.flush()
    os.close(theirs)


def test_a_full_disk_is_an_error_unless_the_text_is_dispensable():
    stream = LossyText.to(os.open("/dev/full", os.O_WRONLY), "wb", {errno.EPIPE}, "utf-8")
    with pytest.raises(OSError, match="No space left"):
        stream.write("a line\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    stream.close()
    with LossyText.to(os.open("/dev/full", os.O_WRONLY), "wb", {errno.ENOSPC}, "utf-8") as stream:
        stream.write("a line\n")
        stream.write("another\n")


def test_characters_that_an_encoding_lacks_are_replaced_by_similar_ones(tmp_path):
    with LossyText.to(tmp_path / "text", "wb", (), "ascii") as stream:
        stream.write("0, 1, … R² of ütf\n")
    assert (tmp_path / "text").read_text() == "0, 1, ... R^2 of \\xfctf\n"


@pytest.mark.processes
@pytest.mark.parametrize("arguments", [["--help"], ["distill", "--help"], ["completion", "bash"]])
@pytest.mark.parametrize("unread", ["stdout", "stderr"])
def test_a_command_whose_output_nobody_reads_ends_in_silence(arguments, unread):
    ours, theirs = os.pipe()
    os.close(ours)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, unread: theirs}
    command = [sys.executable, "-m", "kipper", *arguments]
    found = subprocess.run(command, text=True, check=False, timeout=60, **streams)
    os.close(theirs)
    assert found.returncode == 0
    assert not found.stderr


@pytest.mark.processes
def test_help_and_errors_can_be_written_in_ascii():
    for arguments, status in ((["distill", "--help"], 0), (["status", "nirgends-ü"], 2)):
        found = subprocess.run(
            [sys.executable, "-m", "kipper", *arguments],
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert found.returncode == status
        assert (found.stdout + found.stderr).isascii()
        assert b"Traceback" not in found.stderr
