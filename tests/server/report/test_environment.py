"""What a run says of where it ran."""

import json
import pathlib
import platform
import subprocess

import pytest

from kipper.server.report import environment


def test_it_names_python_packages_and_processor() -> None:
    found = environment.describe_environment()
    assert found["python"] == platform.python_version()
    assert {"jax", "numpy", "scipy"} <= set(found["packages"])
    assert 1 <= found["cores_usable"] <= found["cores"]
    assert found["processor"]
    assert json.loads(json.dumps(found)) == found


def test_the_revision_is_that_of_our_own_checkout_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path / "site-packages")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    assert environment.describe_environment()["revision"] is None
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    revision = environment.describe_environment()["revision"]
    assert revision is not None
    assert len(revision) == 12
    assert head.stdout.startswith(revision)
