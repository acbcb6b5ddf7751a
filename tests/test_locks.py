"""Locks list every package with its hashes, in the versions of the constraints files."""

import importlib.metadata
import pathlib
import re
import runpy

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
IMAGE = ("build", "cuda", "image", "pip")
LOCKS = (*IMAGE, "dev", "later")
AUDIT = runpy.run_path(str(ROOT / "locks" / "audit.py"))


def entries(name: str) -> list[tuple[Requirement, list[str]]]:
    """The requirements of a lock, each with its hashes."""
    joined = (ROOT / "locks" / f"{name}.txt").read_text().replace("\\\n", " ").splitlines()
    found = []
    for line in joined:
        if not line.startswith("#"):
            requirement, *hashes = line.split("--hash=")
            found.append((Requirement(requirement), [each.strip() for each in hashes]))
    return found


def pins(text: str, python: str) -> dict[str, str]:
    """The versions that a constraints file has for a Python."""
    made = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            if applies(requirement, python):
                (specifier,) = requirement.specifier
                made[canonicalize_name(requirement.name)] = specifier.version
    return made


def applies(requirement: Requirement, python: str, extra: str = "") -> bool:
    environment = {
        **default_environment(),
        "python_version": python,
        "python_full_version": f"{python}.0",
        "extra": extra,
    }
    return requirement.marker is None or requirement.marker.evaluate(environment)


def locked(name: str, python: str) -> dict[str, str]:
    made = {}
    for requirement, _ in entries(name):
        if applies(requirement, python):
            (specifier,) = requirement.specifier
            assert specifier.operator == "=="
            made[canonicalize_name(requirement.name)] = specifier.version
    return made


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_hashes_and_a_lock_names_no_index(name: str) -> None:
    for requirement, hashes in entries(name):
        assert hashes, requirement.name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes)
    assert "://" not in (ROOT / "locks" / f"{name}.txt").read_text()


CONSTRAINTS = (ROOT / "constraints.txt").read_text()
LATER = (ROOT / "constraints-later.txt").read_text()


def test_versions_are_those_of_the_constraints() -> None:
    pinned = pins(CONSTRAINTS, "3.10")
    found = locked("dev", "3.10")
    assert found.items() <= pinned.items()
    cuda = {
        each
        for each in pinned
        if each.startswith(("nvidia-", "jax-cuda12", "cuda-", "backports-strenum"))
    }
    assert pinned.keys() - found.keys() == cuda


@pytest.mark.parametrize("name", IMAGE)
def test_the_image_has_the_versions_that_are_tested(name: str) -> None:
    found, pinned = locked(name, "3.13"), pins(LATER, "3.13")
    assert {each: found[each] for each in found.keys() & pinned.keys()}.items() <= pinned.items()


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_versions_on_later_pythons_are_those_of_the_constraints(python: str) -> None:
    assert locked("later", python) == pins(LATER, python)


@pytest.mark.parametrize(
    ("name", "python", "extras"),
    [
        ("dev", "3.10", ("", "dev")),
        ("image", "3.13", ("", "service")),
        *(("later", python, ("", "dev")) for python in ("3.11", "3.12", "3.13")),
    ],
)
def test_kippers_requirements_are_locked(name: str, python: str, extras: tuple[str, ...]) -> None:
    found = locked(name, python)
    for text in importlib.metadata.requires("kipper"):
        requirement = Requirement(text)
        if any(applies(requirement, python, extra) for extra in extras):
            version = found[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), text


def test_everything_is_installed_by_its_hash() -> None:
    for path in ("launch/make_venv.sh", "Dockerfile"):
        for command in re.findall(r"pip install.*|install --.*", (ROOT / path).read_text()):
            if "requirement" in command:
                assert "--require-hashes" in command


def finding(name: str, *ids: str) -> dict:
    return {"name": name, "version": "1", "vulns": [{"id": each} for each in ids]}


def test_an_audit_tells_what_it_does_not_know_from_what_is_sound() -> None:
    skipped = {"name": "jax", "skip_reason": "not found"}
    for packages in ([], [skipped]):
        lines, is_bad = AUDIT["report"](packages)
        assert not is_bad
        assert "not audited" in lines[0]
    lines, is_bad = AUDIT["report"]([skipped, finding("rich"), finding("keras", "B-2", "A-1")])
    assert not is_bad
    assert lines[0].startswith("2 packages audited, 1 with known vulnerabilities; nothing is known")
    assert lines[1].startswith("keras 1: A-1, B-2 (accepted: ")
    lines, is_bad = AUDIT["report"]([finding("rich", "A-1")])
    assert is_bad
    assert "renew it" in lines[1]


def test_what_is_accepted_is_installed_and_explained() -> None:
    frozen = AUDIT["FROZEN"]
    explained = (ROOT / "docs" / "dependencies.md").read_text()
    for name in frozen:
        assert name in locked("dev", "3.10")
        assert f"`{name}`" in explained
