"""A browser for tests of the page."""

import functools
import os
import shutil
import time

import pytest


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=root)
        yield started
        started.close()


def _until(tab, condition, seconds=30):
    """Waits; Playwright's own waiting needs eval, which the page's policy forbids."""
    deadline = time.monotonic() + seconds
    while not tab.evaluate(condition):
        assert time.monotonic() < deadline, f"still not so: {condition}"
        tab.wait_for_timeout(50)


@pytest.fixture
def opened(browser):
    """Opens a page and records its errors and its requests; no errors may remain at the end."""
    tabs = []

    def open_tab(url, width=1280, **options):
        tab = browser.new_page(viewport={"width": width, "height": 900}, **options)
        tab.complaints, tab.requests = [], []
        tab.until = functools.partial(_until, tab)
        tab.on("console", lambda line: tab.complaints.append(line.text))
        tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
        tab.on("requestfailed", lambda request: tab.complaints.append(request.url))
        tab.on("request", lambda request: tab.requests.append(request.url))
        tab.goto(url)
        tabs.append(tab)
        return tab

    yield open_tab
    for tab in tabs:
        assert tab.complaints == []
        tab.close()
