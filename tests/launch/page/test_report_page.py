"""The report of a run in a browser: on a phone, and on a dark screen."""

import pytest

from kipper.launch.main import run


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The address of the report of a finished run."""
    workdir = tmp_path_factory.mktemp("runs") / "reported"
    flags = ["--dataset=digits", "--train_limit=100", "--test_limit=50", "--num_workers=1"]
    assert run(["distill", f"--workdir={workdir}", "--steps=2", "--learn_labels", *flags]) == 0
    return (workdir / "report.html").as_uri()


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_what_is_wider_than_the_screen_scrolls_and_says_so(report, opened, width):
    tab = opened(report, width)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    told, hidden = tab.evaluate(
        """() => {
          const figures = [...document.querySelectorAll('figure')];
          const sheets = figures.map((each) => each.querySelector('.sheet'));
          return [
            figures.map((each) => each.querySelector('.cue').checkVisibility()),
            sheets.map((sheet) => sheet.scrollWidth > sheet.clientWidth),
          ];
        }"""
    )
    assert told == hidden
    assert any(told) == (width < 1280)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_have_the_colour_of_the_page(report, opened, scheme):
    tab = opened(report, color_scheme=scheme)
    corners = tab.evaluate(
        """() => [...document.images].map((image) => {
          const pen = document.createElement('canvas').getContext('2d');
          pen.drawImage(image, 0, 0);
          return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
        })"""
    )
    page = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert {f"rgb({', '.join(map(str, corner))})" for corner in corners} == {page}
