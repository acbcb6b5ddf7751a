"""The parts of kipper that a version of Python has."""

import importlib.util
import subprocess
import sys

import pytest

from kipper.common import this_python
from kipper.common.errors import UserError


@pytest.fixture
def without_both(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ((3, 10, 1), r"pip install 'kipper\[service\]' brings it"),
        ((3, 13, 0), r"its last release is for Python 3\.10"),
    ],
)
@pytest.mark.usefixtures("without_both")
def test_a_part_that_is_missing_is_told_with_what_to_use_instead(monkeypatch, version, why):
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(
        UserError, match=f"^It needs Launchpad, which is not installed: {why}; give --a.$"
    ):
        this_python.check_launchpad("It", "give --a")


@pytest.mark.usefixtures("without_both")
def test_a_python_says_what_it_lacks():
    described = this_python.described()
    assert "all of kipper except Launchpad (instead of --launch=local_mp give " in described
    assert described.endswith(
        "), Ray (pip install 'kipper[service]' brings it) and --engine=neural_tangents"
    )


def test_a_python_with_all_lacks_nothing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert this_python.described().endswith(": all of kipper")


@pytest.mark.parametrize(
    ("version", "supported"),
    [((3, 9, 18), False), ((3, 10, 0), True), ((3, 13, 9), True), ((3, 14, 0), False)],
)
def test_pythons_that_kipper_runs_on(monkeypatch, version, supported):
    monkeypatch.setattr(sys, "version_info", version)
    assert this_python.is_supported() == supported


def test_it_is_printed_for_make():
    command = [sys.executable, "-m", "kipper.common.this_python"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown == f"Python {this_python.described()}.\n"
