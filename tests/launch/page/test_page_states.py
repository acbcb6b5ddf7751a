"""The page for made-up states in a real browser: its content, for any reader, size and width."""

import contextlib
import re
import types

import fake_state
import numpy as np
import pytest

from kipper.common.durations import duration
from kipper.common.numbers import amount, byte_count, percent
from kipper.launch.page.listening import KnownHosts, listen, url_of
from kipper.launch.page.live import PageServer
from kipper.launch.page.server import asset

pytestmark = pytest.mark.thorough

HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>"
)


IMAGE = np.random.default_rng(0).random((9, 30, 3), np.float32)


def _pixels(images):
    return (255 * images).astype(np.uint8)


@pytest.fixture
def shown(opened):
    """Serves the page of a state, and opens it."""
    with contextlib.ExitStack() as stack:

        def show(state, records, image=None, **options):
            newest = fake_state.snapshot(state, records, image)
            listener = listen("127.0.0.1", 0)
            url = url_of(listener)
            watch = types.SimpleNamespace(newest=newest)
            stack.callback(PageServer(watch, listener, KnownHosts(), _pixels).stop)
            tab = opened(url, **options)
            stack.callback(tab.close)
            tab.until(f"records.length === {len(records)} && latest !== null && !waiting")
            return tab

        yield show


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
    tab = shown(state, records, IMAGE)
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
    tab.until("document.querySelector('#images img').naturalWidth === 60")
    tab.until("document.querySelector('#curve img')?.naturalWidth > 700")
    address = tab.url.rstrip("/")
    assert [url for url in tab.requests if not url.startswith(address + "/")] == []


def test_the_page_says_what_bits_depend_on_and_which_worker_it_waits_for(shown):
    state, records = fake_state.state(2), fake_state.records(3)
    tab = shown(state, records)
    assert not tab.is_visible("#numerics")
    run = {
        **state["run"],
        "numerics": {"workers": ["hands", "<b>beads</b>"], "coordinators": ["ink"]},
        "waits_for": "hands",
    }
    tab = shown({**state, "run": run}, records)
    assert tab.inner_text("#numerics") == "mixed numerics: hands; <b>beads</b>; ink"
    assert tab.inner_text("#message") == "Waits for a worker that computes by hands."


def test_the_table_of_evaluations_has_them_all(shown):
    records = fake_state.records(300)
    tab = shown(fake_state.state(2), records)
    tab.get_by_text("All evaluations as a table").click()
    rows = tab.locator("#points tbody tr").all_inner_texts()
    found = [re.split(r"[\t\n]+", row) for row in rows]
    assert [int(row[0].replace(",", "")) for row in found] == [r["step"] for r in records]
    assert [float(row[1]) for row in found] == pytest.approx([r["loss"] for r in records], rel=1e-5)
    assert [float(row[3].rstrip(" %")) for row in found] == pytest.approx(
        [100 * r["test_accuracy"] for r in records], abs=0.051
    )


def test_curves_have_their_last_values_as_text(shown):
    records = fake_state.records(50)
    tab = shown(fake_state.state(2), records)
    tab.until("document.querySelector('#curve img') !== null")
    alt = tab.locator("#curve img").get_attribute("alt")
    last = records[-1]
    assert f"at step {last['step']:,} the loss is {last['loss']:.6g}" in alt
    assert f"test accuracy {100 * last['test_accuracy']:.1f} %" in alt


def test_curves_follow_new_records(shown):
    tab = shown(fake_state.state(2), fake_state.records(3))
    tab.until("document.querySelector('#curve img') !== null")
    tab.evaluate("records => receiveRecords(records, false)", fake_state.records(60)[3:])
    tab.until("document.querySelector('#curve img').alt.includes('at step 1,475 ')")
    tab.until("curveOf === records")
    assert sum("curve.png" in url for url in tab.requests) == 2


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
    later["images"] = None
    tab.evaluate("state => receive(state)", later)
    tab.evaluate("records => receiveRecords(records, true)", fake_state.records(60))
    tab.until("document.getElementById('step').textContent === 'step 1,300 of 5,000'")
    assert head.evaluate("button => button === document.activeElement")
    assert "70 workers" in tab.inner_text("#workers-words")


@pytest.mark.parametrize("workers", [1, 500])
@pytest.mark.parametrize("width", [390, 800, 1400])
def test_nothing_is_wider_than_the_screen(shown, width, workers):
    state = fake_state.state(workers, message="word " * 50 + "x" * 300)
    tab = shown(state, fake_state.records(40), IMAGE, width=width)
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
    tab = shown(state, fake_state.records(3), IMAGE)
    for place in ("#message", "#title", "#images-classes", "#workers"):
        assert "<img src=x onerror=" in tab.inner_text(place)
    tab.until("curveOf === records")
    assert tab.locator("img").count() == 2
    assert tab.title().startswith("24 %, <img")
    address = tab.url.rstrip("/")
    assert [url for url in tab.requests if not url.startswith(address + "/")] == []


def test_a_run_that_failed_at_once_has_a_page(shown):
    state = fake_state.state(0, state="failed", message="The images diverged.")
    state.update(matrix=None, images=None, natural=None)
    tab = shown(state, [])
    assert tab.inner_text("#message") == "The images diverged."
    assert "The run failed at " in tab.inner_text("#connection")
    assert "The curves appear after the first evaluation." in tab.inner_text("main")
    assert not tab.locator("#workers").is_visible()


def test_regressions_are_judged_by_r_squared(shown):
    state = fake_state.state(2, state="finished")
    state.update(measure={"key": "r2", "name": "R²", "factor": 1.0}, natural=0.25)
    tab = shown(state, [{"step": 0, "loss": 0.5, "train_r2": 0.3, "test_r2": 0.26}])
    assert tab.inner_text("#score") == "0.260"
    assert "natural 0.250" in _words(tab, "#score-note")


def test_the_page_refers_to_nothing_outside():
    page = asset("page.html").decode()
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert links
    assert [link for link in links if ":" in link or link.startswith("/")] == []
    assert "style=" not in page  # inline styles are refused by its content security policy


def test_numbers_read_as_in_the_report(shown):
    tab = shown(fake_state.state(2), fake_state.records(3))
    seconds, sizes = [0.2, 59.4, 59.6, 221, 3723, 400_000], [999, 1000, 180_600_000]
    assert tab.evaluate(f"{seconds}.map((each) => duration(each))") == list(map(duration, seconds))
    exact = tab.evaluate(f"{seconds}.map((each) => duration(each, true))")
    assert exact == [duration(each, exact=True) for each in seconds]
    assert tab.evaluate(f"{sizes}.map((each) => bytes(each))") == list(map(byte_count, sizes))
    counts = [955_860, 17_499_200, 3_990_000_000]
    assert tab.evaluate(f"{counts}.map((each) => amount(each))") == list(map(amount, counts))
    shares = [0.855, 1.0, 0.08]
    assert tab.evaluate(f"{shares}.map((each) => score(each))") == list(map(percent, shares))


def test_only_deaths_have_the_colour_of_deaths(shown):
    tab = shown(fake_state.state(24), fake_state.records(3))
    tab.get_by_text("All evaluations as a table").click()
    tab.until("document.querySelectorAll('#points tbody td').length > 0")
    colours = tab.evaluate(
        """() => {
          const of = (place) => [...document.querySelectorAll(place)].map(
            (cell) => getComputedStyle(cell).color);
          return [of('#points tbody td'), of('#workers tr:not([data-deaths="0"]) td:nth-child(5)')];
        }"""
    )
    plain, alarming = map(set, colours)
    assert len(plain) == len(alarming) == 1
    assert plain != alarming


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_curves_are_those_for_the_screen(shown, scheme):
    tab = shown(fake_state.state(2), fake_state.records(3), color_scheme=scheme)
    tab.until("document.querySelector('#curve img') !== null || requested")
    asked = [url for url in tab.requests if "curve.png" in url]
    assert all(("dark=yes" in url) == (scheme == "dark") for url in asked)
    assert asked
