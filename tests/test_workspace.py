"""The map is true: what it names exists, what exists is on it, and imports go one way."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
ROOMS = {"common": set(), "workers": {"common"}, "server": {"common"}}
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for room in ("common", "workers", "server", "launch")
    for pattern in ("*.py", "*.sh")
    for path in (ROOT / room).rglob(pattern)
)
MAP = (ROOT / "WORKSPACE.md").read_text()
# In backquotes, with a slash or one of these endings: a path.
NAMED = {
    name
    for name in re.findall(r"`([\w./-]+)`", MAP)
    if "/" in name or name.endswith((".py", ".md", ".toml", ".txt"))
}


def _imports(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_every_path_on_the_map_exists():
    relative = {name for name in NAMED if (ROOT / name).exists()}
    beside = {name for name in NAMED if (ROOT / "common/datasets" / name).exists()}
    assert NAMED - relative - beside == set()


def test_every_source_file_is_on_the_map():
    assert len(SOURCES) > 40
    assert [path for path in SOURCES if path not in NAMED] == []


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
    allowed = ROOMS[room] | {room}
    for path in SOURCES:
        if path.startswith(f"{room}/") and path.endswith(".py"):
            for name in _imports(path):
                if name.startswith("kipper."):
                    assert name.split(".")[1] in allowed, f"{path} imports {name}"


def test_only_one_module_imports_neural_tangents():
    importers = [
        path
        for path in SOURCES
        if path.endswith(".py") and any(n.startswith("neural_tangents") for n in _imports(path))
    ]
    assert importers == ["workers/neural_tangents.py"]


def test_only_launch_and_the_service_know_courier():
    for path in SOURCES:
        if path.endswith(".py") and not path.startswith("launch/"):
            roots = {name.split(".")[0] for name in _imports(path)}
            assert not roots & {"courier", "launchpad", "reverb"}, path


def test_no_file_is_too_long_to_read():
    for path in [*SOURCES, *(p.relative_to(ROOT).as_posix() for p in ROOT.glob("tests/**/*.py"))]:
        assert len((ROOT / path).read_text().splitlines()) <= 400, path


def test_links_in_markdown_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
