"""Processes that kipper does not start itself also import JAX while no garbage is collected."""

import subprocess
import sys

import pytest
from installation import needs_launchpad, needs_ray

# Stops where JAX is about to be imported, with 3 if the collector is on.
FINDER = """
import gc, importlib.abc, os, sys

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "jax":
            os._exit(3 if gc.isenabled() else 0)

sys.meta_path.insert(0, Finder())
"""
ACTOR = """
from kipper.launch.ray.actor import ActorPlan, WorkerActor

WorkerActor(ActorPlan("w", "run", 1, None, None, "text"))
raise SystemExit("it did not import JAX")
"""
NODES = """
import kipper.launch.nodes

raise SystemExit("it did not import JAX")
"""
PROGRAM = NODES.replace("nodes", "program")


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(ACTOR, marks=needs_ray, id="actor"),
        pytest.param(NODES, marks=needs_launchpad, id="nodes"),
        pytest.param(PROGRAM, marks=needs_launchpad, id="program"),
    ],
)
def test_jax_is_imported_without_collection(program: str) -> None:
    assert subprocess.run([sys.executable, "-c", FINDER + program], check=False).returncode == 0
