"""The documents' figures are those that docs/figures/make.py draws, and small."""

import pathlib
import runpy
import sys

import matplotlib
import pytest

FOLDER = pathlib.Path(__file__).parent.parent / "docs" / "figures"
FILES = sorted(FOLDER.glob("*.svg"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder into which the script has drawn all figures."""
    folder = tmp_path_factory.mktemp("figures")
    sys.path.insert(0, str(FOLDER))  # Python does this for a script
    try:
        runpy.run_path(str(FOLDER / "make.py"))["main"](folder)
    finally:
        sys.path.remove(str(FOLDER))
    return folder


def test_every_figure_is_drawn_by_the_script_and_shown_on_a_page(drawn):
    assert [path.name for path in FILES] == sorted(path.name for path in drawn.iterdir())
    pages = "".join(page.read_text() for page in FOLDER.parent.glob("*.md"))
    assert [path.name for path in FILES if f"](figures/{path.name})" not in pages] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_figure_is_as_drawn(path, drawn):
    kept = path.read_bytes()
    assert len(kept) < 100_000
    if f"Matplotlib v{matplotlib.__version__}," not in kept.decode():
        pytest.skip("the figure was drawn by another version of matplotlib")
    assert (drawn / path.name).read_bytes() == kept
