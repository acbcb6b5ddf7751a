"""The page of a real run in a real browser, during the run and at its end."""

import json
import os
import pathlib
import re
import signal
import subprocess

import pytest
from installation import LAUNCHPAD, needs_ray
from runs import command, nodes_of

pytestmark = [pytest.mark.processes, pytest.mark.thorough]
if not LAUNCHPAD:
    pytestmark.append(needs_ray)

LAUNCH = "local_mp" if LAUNCHPAD else "ray"


@pytest.fixture(scope="module")
def run(browser, tmp_path_factory):
    """A run of two worker processes that would go on for minutes: (its process, its folder)."""
    workdir = tmp_path_factory.mktemp("runs") / "shown"
    flags = ("--support_size=10", "--steps=100000", "--eval_every=40", f"--launch={LAUNCH}")
    process = subprocess.Popen(
        command(workdir, *flags, "--num_workers=2"), stdout=subprocess.PIPE, text=True
    )
    yield process, workdir
    process.kill()
    process.communicate()


def _address(process):
    for line in process.stdout:
        if found := re.search(r"dashboard (http://\S+)", line):
            return found[1]
    return pytest.fail("the run did not say where its page is")


def _worker_process(workdir, name):
    for pid in nodes_of(workdir):
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        log = os.readlink(f"/proc/{pid}/fd/2")
        if f"--name={name}" in words or (LAUNCH == "ray" and log.endswith(f"/{name}.log")):
            return pid
    return pytest.fail(f"there is no process of {name}")


def _words(tab, place):
    """Its text, lines broken or not."""
    return tab.inner_text(place).replace("\N{NO-BREAK SPACE}", " ")


def _number(text):
    return float(text.replace(",", "").removesuffix(" %"))


def _evaluations(tab):
    """Rows of the page's table: step, loss, train and test accuracy in percent, seconds."""
    rows = tab.locator("#points tbody tr").all_text_contents()
    cells = tab.locator("#points tbody td").all_text_contents()
    across = len(cells) // max(1, len(rows))
    return [[_number(cell) for cell in cells[i : i + across]] for i in range(0, len(cells), across)]


def _recorded(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [
        [
            record["step"],
            record["loss"],
            100 * record["train_accuracy"],
            100 * record["test_accuracy"],
            record["seconds"],
        ]
        for record in map(json.loads, lines)
    ]


def _check_numbers(tab, workdir):
    """All that the page says of evaluations is what metrics.jsonl says."""
    recorded = _recorded(workdir)
    for shown, told in zip(_evaluations(tab), recorded, strict=True):
        assert shown[0] == told[0]
        assert shown[1] == pytest.approx(told[1], rel=1e-5)
        assert shown[2:4] == pytest.approx(told[2:4], abs=0.051)
        assert shown[4] == pytest.approx(told[4], abs=0.051)
    assert tab.inner_text("#score") == f"{recorded[-1][3]:.1f} %"
    natural = recorded[0][3]  # a run that begins with natural images has their score at step 0
    assert _words(tab, "#score-note") == f"step {recorded[-1][0]:,}, natural {natural:.1f} %"
    alt = tab.locator("#curve img").get_attribute("alt")
    assert f"at step {recorded[-1][0]:,} " in alt
    assert alt.endswith(f" {recorded[-1][3]:.1f} %")


def test_a_run_is_shown_while_it_runs_and_afterwards(run, opened):
    process, workdir = run
    tab = opened(_address(process))
    tab.until("records.length > 2 && latest.images !== null", 60)
    tab.until("document.querySelector('#curve img')?.naturalWidth > 700", 30)
    assert tab.inner_text("#connection-words") == "live"
    assert "digits, fc1, 10 images, KIP" in tab.title()
    tab.until("document.querySelector('#images img').naturalWidth > 100", 10)
    assert tab.inner_text("#images-classes").startswith("Classes: 0, 1, 2")
    assert tab.inner_text("#deaths") == "0"
    tab.until("document.querySelectorAll('#workers tbody tr').length === 2", 60)
    tab.get_by_text("All evaluations as a table").click()

    os.kill(_worker_process(workdir, "worker-1"), signal.SIGKILL)
    tab.until("document.getElementById('deaths').textContent === '1'", 10)
    row = tab.locator("#workers tbody tr", has=tab.get_by_role("rowheader", name="worker-1"))
    assert row.get_attribute("data-deaths") == "1"
    # What needs attention goes first, and it is started again.
    assert tab.locator("#workers tbody th").first.inner_text() == "worker-1"
    tab.until("latest.workers.every((worker) => 'working idle'.includes(worker.state))", 60)

    assert tab.complaints == []
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    tab.until("document.getElementById('state').textContent === 'interrupted'", 10)
    assert tab.inner_text("#connection-words").startswith("The run was interrupted at ")
    tab.until("curveOf === records", 10)  # the server stays until it has sent the last curves
    _check_numbers(tab, workdir)
    tab.close()
    tab.complaints.clear()  # the browser's own, about a server that is gone
    assert not (workdir / "dashboard.html").exists()
    assert nodes_of(workdir) == []
