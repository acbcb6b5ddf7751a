"""Descriptors reserved for a process's own files, in a process that has no others left."""

import subprocess
import sys

SCRIPT = """
import os, resource
from kipper.common.spare_files import keep_spare_files, with_spare_files

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
with with_spare_files():  # nothing is kept yet
    pass
keep_spare_files()
taken = []

def take_all():
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass

take_all()
for _ in range(3):
    try:
        open(os.devnull).close()
    except OSError:
        print("full")
    with with_spare_files(), with_spare_files(), open(os.devnull), open(os.devnull):
        print("written")
with with_spare_files():
    take_all()  # strangers come meanwhile: nothing to be done, and nothing breaks
with with_spare_files():
    print("short", len(taken) > 250)
for descriptor in taken:
    os.close(descriptor)
keep_spare_files()
taken.clear()
take_all()
with with_spare_files(), open(os.devnull):
    print("written")
"""


def test_a_file_can_be_written_when_strangers_hold_all_other_descriptors() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stderr == ""
    words = done.stdout.split()
    assert words == [*("full", "written") * 3, "short", "True", "written"]
