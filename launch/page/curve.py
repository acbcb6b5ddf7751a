"""The report's figure of loss and score, drawn while the run is under way."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

from absl import logging

from kipper.server.measures import Score
from kipper.server.records import Evaluation
from kipper.server.watch.run_view import Record, RunView
from kipper.server.workdir import Workdir

# After a drawing the thread rests for this many times as long as the drawing took, so that a run
# that evaluates often loses at most 5 % of one core to onlookers.
REST = 20.0


class Drawings(NamedTuple):
    """The figure as PNG files, for a white and for a dark page."""

    light: bytes
    dark: bytes


class LiveCurve:
    """Draws the figure on request, in a worker thread, and once per change of the records.

    A figure that cannot be drawn is logged once and never affects the run.

    Attributes:
        requests: the number of requests that have not been answered.
        asked_step: the step of the newest evaluation for which a figure was requested; -1 before.

    Args:
        newest: returns the newest snapshot of the run.
        ended: is set at the run's end; the last figure is drawn without a rest.
    """

    def __init__(self, newest: Callable[[], RunView], ended: asyncio.Event):
        self.requests = 0
        self.asked_step = -1
        self._newest = newest
        self._ended = ended
        self._turn = asyncio.Lock()
        self._drawn: tuple[Record, ...] = ()
        self._drawings: Drawings | None = None
        self._rested = 0.0  # when the next drawing may begin, by the monotonic clock
        self._has_failed = False

    @property
    def is_awaited(self) -> bool:
        """Whether onlookers wait for a figure, or will ask for one of the newest evaluation."""
        records = self._newest().records
        return self.requests > 0 or (bool(records) and -1 < self.asked_step < records[-1]["step"])

    async def png(self, dark: bool = False) -> bytes | None:
        """The figure of the newest records as PNG; None before the first evaluation."""
        async with self._turn:
            if self._newest().records is not self._drawn:
                await self._rest()
                snapshot = self._newest()
                began = time.monotonic()
                try:
                    self._drawings = await asyncio.to_thread(drawings, snapshot)
                except Exception as error:  # a figure must never cost a run anything
                    if not self._has_failed:
                        logging.warning("The curves of the live page cannot be drawn: %r", error)
                    self._has_failed = True
                self._drawn = snapshot.records
                now = time.monotonic()
                self._rested = now + REST * (now - began)
            if self._drawings is None:
                return None
            return self._drawings.dark if dark else self._drawings.light

    async def _rest(self) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), max(0.0, self._rested - time.monotonic()))


def drawings(snapshot: RunView) -> Drawings | None:
    """The figure of a snapshot's records; None if it has none."""
    if not snapshot.records:
        return None
    # matplotlib takes a second to import, and most runs have no onlookers.
    from kipper.server.figures import style
    from kipper.server.figures.curve import curve_figure
    from kipper.server.figures.dark import dark_png

    evaluations = [Evaluation.read(record) for record in snapshot.records]
    natural = None
    if snapshot.natural is not None and evaluations[0].test is not None:
        natural = Score(evaluations[0].test.measure, snapshot.natural)
    validations = Workdir(snapshot.about["workdir"]).validations()
    figure = curve_figure(evaluations, validations, natural)
    return Drawings(style.png(figure), dark_png(figure))
