"""Sentences from the errors of Ray, as Ray 2.48 words them."""

import pytest

from kipper.launch.ray.words import missing_module, reason_of

KILLED = """The actor died unexpectedly before finishing this task.
\tclass_name: WorkerActor
\tpid: 12334
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit \
detail: Worker unexpectedly exits with a connection error code 2. End of file."""
CREATION = """The actor died because of an error raised in its creation task, \x1b[36mray::W\x1b[39m
  File "python/ray/_raylet.pyx", line 1747, in ray._raylet.execute_task
RuntimeError: The actor with name WorkerActor failed to import on the worker.

ray.exceptions.RaySystemError: System error: No module named 'kipper'
traceback: Traceback (most recent call last):
ModuleNotFoundError: No module named 'kipper'
"""
VERSIONS = """Version mismatch: The cluster was started with:
    Ray: 2.48.0
    Python: 3.10.13
This process on node 192.0.2.2 was started with:
    Ray: 2.60.0
    Python: 3.13.0
"""


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (KILLED, "its worker process has died"),
        (CREATION, "ModuleNotFoundError: No module named 'kipper'"),
        (
            VERSIONS,
            "the cluster has Ray 2.48.0 on Python 3.10.13 and this process Ray 2.60.0 on Python "
            "3.13.0, which must be the same",
        ),
        ("The node is gone.\nSo are its actors.", "The node is gone"),
        ("", "RuntimeError"),
    ],
)
def test_the_reason_is_one_line(said, reason):
    assert reason_of(RuntimeError(said)) == reason


def test_a_module_that_a_node_lacks_is_named():
    assert missing_module(RuntimeError(CREATION)) == "kipper"
    assert missing_module(RuntimeError(KILLED)) is None
