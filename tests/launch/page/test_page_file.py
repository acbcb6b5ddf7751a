"""The page as a file, of runs that never were: what it shows, to whom, and what it lets happen."""

import io
import json
import re

import fake_state
import numpy as np
import pytest
from PIL import Image

from kipper.launch.page.page import render_file, render_live

HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>"
)


@pytest.fixture
def shown(opened, tmp_path):
    """Opens the page of a state."""

    def show(state, records, image=None, **options):
        file = tmp_path / "dashboard.html"
        file.write_text(render_file(state, records, image))
        return opened(file.as_uri(), **options)

    return show


def _png():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 300, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _words(tab, place):
    """Its text, lines broken or not."""
    return tab.inner_text(place).replace("\N{NO-BREAK SPACE}", " ")


def _column(tab, number):
    cells = tab.locator(f"#workers tbody tr > :nth-child({number})")
    return cells.all_inner_texts()


def _counts(tab):
    """Of the legend of the kernel matrix: words to number."""
    lines = tab.locator("#matrix-legend li").all_inner_texts()
    return {
        words: int(count.replace(",", "")) for words, count in (s.rsplit(" ", 1) for s in lines)
    }


def test_the_page_says_what_the_state_holds(shown):
    state, records = fake_state.state(64, state="finished"), fake_state.records(50)
    tab = shown(state, records, _png())
    assert tab.title() == "finished, cifar10, convnet, 500 images, KIP"
    assert "The run finished at " in tab.inner_text("#connection")
    assert tab.inner_text("#score") == f"{100 * records[-1]['test_accuracy']:.1f} %"
    assert "natural 31.2 %" in _words(tab, "#score-note")
    assert tab.inner_text("#pairs") == "3.99 billion"
    assert tab.inner_text("#bytes") == "85.3 GB"
    assert tab.inner_text("#deaths") == str(state["deaths"])
    letters = state["matrix"]["states"]
    names = {"queued": "q", "running": "r", "tried again": "x", "running twice": "d", "done": "D"}
    assert _counts(tab) == {words: letters.count(letter) for words, letter in names.items()}
    assert tab.locator("#images img").evaluate("image => image.naturalWidth") == 300
    assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []


def test_the_table_of_evaluations_has_them_all(shown):
    records = fake_state.records(300)
    tab = shown(fake_state.state(2), records)
    tab.get_by_text("All evaluations as a table").click()
    rows = tab.locator("#points tbody tr").all_inner_texts()
    found = [re.split(r"[\t\n]+", row) for row in rows]
    assert [int(row[0].replace(",", "")) for row in found] == [r["step"] for r in records]
    assert [float(row[1]) for row in found] == pytest.approx([r["loss"] for r in records], rel=1e-5)
    assert [float(row[3].rstrip(" %")) for row in found] == pytest.approx(
        [100 * r["test_accuracy"] for r in records], abs=0.006
    )


def test_curves_are_read_by_keyboard(shown):
    records = fake_state.records(50)
    tab = shown(fake_state.state(2), records)
    slider = tab.get_by_role("slider", name="accuracy")
    slider.focus()
    for key, index in (("Home", 0), ("ArrowRight", 1), ("PageUp", 11), ("End", 49)):
        tab.keyboard.press(key)
        words = slider.get_attribute("aria-valuetext")
        assert words.startswith(f"step {records[index]['step']:,}: ")
        assert f"test {100 * records[index]['test_accuracy']:.1f} %" in words
        assert f"loss {records[index]['loss']:.6g}" in tab.inner_text("#loss-plot .readout")


def test_curves_are_drawn_to_scale(shown):
    """A logarithmic axis has equal factors at equal distances; that of steps begins at 0."""
    losses = [1.0, 0.1, 0.01]
    records = [
        {**record, "loss": loss} for record, loss in zip(fake_state.records(3), losses, strict=True)
    ]
    tab = shown(fake_state.state(2), records)
    points = tab.locator("#loss-plot polyline.curve").get_attribute("points").split()
    heights = [float(point.split(",")[1]) for point in points]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
    across = [float(point.split(",")[0]) for point in points]
    share = (across[1] - across[0]) / (across[2] - across[0])
    assert share == pytest.approx(np.log(1 + 25) / np.log(1 + 50), abs=1e-3)
    ticks = tab.locator("#loss-plot svg text[text-anchor=end]").all_text_contents()
    assert ticks == ["0.01", "0.1", "1", "step (logarithmic)"]


def test_workers_are_sorted_by_keyboard(shown):
    state = fake_state.state(64)
    tab = shown(state, fake_state.records(3))
    lost = [w["name"] for w in state["workers"] if w["state"] == "lost"]
    assert set(_column(tab, 1)[: len(lost)]) == set(lost)  # what needs attention, first
    assert len(_column(tab, 1)) == 20

    for _ in range(60):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.textContent").startswith("pairs/s"):
            break
    rates = sorted((w["pairs_per_second"] for w in state["workers"]), reverse=True)
    head = tab.get_by_role("columnheader", name="pairs/s")
    for order, expected in (("descending", rates), ("ascending", rates[::-1])):
        tab.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        assert _column(tab, 3) == [f"{rate:,.0f}" for rate in expected[:20]]
    tab.get_by_role("button", name="Show all 64 workers").press("Enter")
    assert _column(tab, 3) == [f"{rate:,.0f}" for rate in rates[::-1]]


def test_an_update_keeps_focus_and_changes_what_it_must(shown):
    tab = shown(fake_state.state(64), fake_state.records(3))
    head = tab.locator("#workers thead button").nth(4)
    head.focus()
    # What a server would send: the same run a little later, with more evaluations.
    later = fake_state.state(70)
    later["progress"]["step"] = 1300
    tab.evaluate("state => receive(state)", later)
    tab.evaluate("records => receiveRecords(records, true)", fake_state.records(60))
    tab.wait_for_function("document.getElementById('step').textContent === 'step 1,300 of 5,000'")
    assert head.evaluate("button => button === document.activeElement")
    assert "70 workers" in tab.inner_text("#workers-words")


@pytest.mark.parametrize("workers", [1, 500])
@pytest.mark.parametrize("width", [390, 800, 1400])
def test_nothing_is_wider_than_the_screen(shown, width, workers):
    state = fake_state.state(workers, message="word " * 50 + "x" * 300)
    tab = shown(state, fake_state.records(40), _png(), width=width)
    if workers == 500:
        tab.get_by_role("button", name="Show all 500 workers").click()
        assert len(_column(tab, 1)) == 500
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_text_of_a_run_is_never_markup(shown):
    state = fake_state.state(3, message=HOSTILE, dataset=HOSTILE, workdir=HOSTILE)
    for worker, lane in zip(state["workers"], state["timeline"]["lanes"], strict=True):
        lane["worker"] = worker["name"] = HOSTILE + worker["name"]
        worker.update(host=HOSTILE, engine=HOSTILE, reason=HOSTILE)
    state["images"]["classes"] = [HOSTILE]
    tab = shown(state, fake_state.records(3), _png())
    for place in ("#message", "#title", "#images-classes", "#workers"):
        assert "<img src=x onerror=" in tab.inner_text(place)
    assert tab.locator("img").count() == 1
    assert tab.title().startswith("24 %, <img")
    assert [url for url in tab.requests if not url.startswith(("file:", "data:"))] == []


def test_a_run_that_failed_at_once_has_a_page(shown):
    state = fake_state.state(0, state="failed", message="The images diverged.")
    state.update(matrix=None, images=None, natural=None)
    tab = shown(state, [])
    assert tab.inner_text("#message") == "The images diverged."
    assert "The run failed at " in tab.inner_text("#connection")
    assert "Nothing was evaluated." in tab.inner_text("main")
    assert not tab.locator("#workers").is_visible()


def test_regressions_are_judged_by_r_squared(shown):
    state = fake_state.state(2, state="finished")
    state.update(measure={"key": "r2", "name": "R²", "factor": 1.0}, natural=0.25)
    tab = shown(state, [{"step": 0, "loss": 0.5, "train_r2": 0.3, "test_r2": 0.26}])
    assert tab.inner_text("#score") == "0.260"
    assert "natural 0.250" in _words(tab, "#score-note")


def test_what_json_lacks_is_left_out():
    state = fake_state.state(1)
    state["progress"]["loss"] = float("nan")
    page = render_file(state, [{"step": 0, "loss": float("inf")}], None)
    held = re.search(r'id="ended">(.*?)</script>', page, re.DOTALL)[1]
    found = json.loads(held)
    assert found["state"]["progress"]["loss"] is None
    assert found["records"] == [{"step": 0, "loss": None}]


def test_the_live_page_names_nothing_outside():
    page = render_live()
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert links
    assert [link for link in links if ":" in link or link.startswith("/")] == []
    assert "style=" not in page  # which its content security policy would refuse
