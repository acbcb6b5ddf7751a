"""WORKSPACE.md names what exists, every package is on it, and imports go one way."""

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
# From the top; "launch" stands for the modules of launch/ itself.
LAUNCH_LAYERS = (
    *("main", "interface", "commands", "cluster", "launch", "ray", "page", "link", "processes"),
)
MAP = (ROOT / "WORKSPACE.md").read_text()
# Paths: names in backquotes with a slash or one of these endings.
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
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_path_on_the_map_exists():
    relative = {name for name in NAMED if (ROOT / name).exists()}
    beside = {name for name in NAMED if (ROOT / "common/datasets" / name).exists()}
    assert NAMED - relative - beside == set()


def test_every_package_is_on_the_map():
    packages = {path.rpartition("/")[0] + "/" for path in SOURCES if path.endswith(".py")}
    assert len(packages) > 12
    assert packages - NAMED == set()


def _launch_layer(module):
    name = [*module.split("."), ""][2]
    return LAUNCH_LAYERS.index(name if name in LAUNCH_LAYERS else "launch")


def test_imports_inside_launch_go_one_way():
    for path in SOURCES:
        if path.startswith("launch/") and path.endswith(".py"):
            own = _launch_layer("kipper." + path.removesuffix(".py").replace("/", "."))
            for name in _imports(path):
                if name.startswith("kipper.launch"):
                    assert _launch_layer(name) >= own, f"{path} imports {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
    others = {"common", "workers", "server", "launch"} - ROOMS[room] - {room}
    for path in SOURCES:
        if path.startswith(f"{room}/") and path.endswith(".py"):
            for name in _imports(path):
                assert not name.startswith(tuple(f"kipper.{other}" for other in others)), (
                    f"{path} imports {name}"
                )


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


def test_links_in_markdown_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_two_public_classes_have_one_name():
    names = [
        node.name
        for path in SOURCES
        if path.endswith(".py")
        for node in ast.parse((ROOT / path).read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert {name for name in names if names.count(name) > 1} == set()
