"""Libraries that only some Pythons have, and marks for tests that need them."""

import importlib.util

import pytest

NEURAL_TANGENTS = importlib.util.find_spec("neural_tangents") is not None
LAUNCHPAD = importlib.util.find_spec("launchpad") is not None
RAY = importlib.util.find_spec("ray") is not None

needs_neural_tangents = pytest.mark.skipif(
    not NEURAL_TANGENTS, reason="neural-tangents is not installed here"
)
needs_launchpad = pytest.mark.skipif(not LAUNCHPAD, reason="Launchpad is not installed here")
needs_ray = pytest.mark.skipif(not RAY, reason="Ray is not installed here")
