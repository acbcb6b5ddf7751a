"""Pools over fake links."""

import logging
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from fake_links import FakeLink
from pool_requests import CONFIGURE, ROW_SETS

from kipper.server.pool import Pool
from kipper.server.pool_options import PoolOptions
from kipper.server.scheduler import rules
from kipper.server.scheduler.event_log import replay
from kipper.server.scheduler.rules import Policy


@pytest.fixture
def make_pool(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[Any]:
    """Makes pools that are closed at the end.

    By then links must have noted no fault, and the scheduler's logs must replay. Pauses after
    failures are short.
    """
    monkeypatch.setattr(rules, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(rules, "MAX_PAUSE_SECONDS", 0.01)
    made: list[tuple[Pool, list[FakeLink]]] = []

    def make(
        links: list[FakeLink],
        row_sets: Mapping[str, np.ndarray] = ROW_SETS,
        on_progress: Callable[[], None] = lambda: None,
        **options: Any,
    ) -> Pool:
        folder = tmp_path / f"logs{len(made)}"
        folder.mkdir()
        policy = Policy(**{"patience_seconds": 10.0, **options.pop("policy", {})})
        pool = Pool(
            links,
            CONFIGURE,
            row_sets,
            on_progress,
            PoolOptions(policy, folder=folder, **options),
        )
        made.append((pool, links))
        return pool

    yield make
    for number, (pool, links) in enumerate(made):
        pool.close()
        assert all(link.closed for link in links)
        assert [fault for link in links for fault in link.faults] == []
        assert replay(tmp_path / f"logs{number}" / "events.jsonl") >= 0


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """Kipper's warnings, as they come."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Collect(logging.WARNING)
    logger = logging.getLogger("absl")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)
