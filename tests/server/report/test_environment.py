"""What a run records about the place where it ran."""

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


def test_environments_of_earlier_coordinators_are_kept_once_each() -> None:
    old = {"started": "1", "python": "3.10", "workers": {"w": {}}}
    now: environment.Json = {"started": "2", "python": "3.13"}
    second = environment.with_earlier(now, old)
    assert second == {**now, "earlier": [old]}
    assert environment.with_earlier({**now, "started": "3"}, second)["earlier"] == [old]
    third = environment.with_earlier({"started": "4", "python": "3.10"}, second)
    assert third == {"started": "4", "python": "3.10", "earlier": [now]}
    assert environment.with_earlier({**now, "started": "5"}, now) == {**now, "started": "5"}


@pytest.mark.parametrize("earlier", [3, [3], [[]]])
def test_what_is_no_environment_is_refused(earlier: object) -> None:
    with pytest.raises(TypeError):
        environment.with_earlier({}, {"earlier": earlier})
