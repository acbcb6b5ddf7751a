"""What is not installed on every Python that kipper runs on, and marks for tests of it."""

import importlib.util

import pytest

NEURAL_TANGENTS = importlib.util.find_spec("neural_tangents") is not None
LAUNCHPAD = importlib.util.find_spec("launchpad") is not None

needs_neural_tangents = pytest.mark.skipif(
    not NEURAL_TANGENTS, reason="neural-tangents is not installed here"
)
needs_launchpad = pytest.mark.skipif(not LAUNCHPAD, reason="Launchpad is not installed here")
