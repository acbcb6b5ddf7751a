"""Which of a block's rows are on a worker, on their way to it, or yet to be sent."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from kipper.common import messages
from kipper.server.block_specs import BlockRequest

# Small messages reuse the transport's buffers, with several times the throughput of large ones.
PIECE_BYTES = 4 * 2**20

# States of rows; positive numbers are deliveries in progress.
_ABSENT, _HELD = 0, -1


@dataclasses.dataclass(frozen=True)
class Support:
    """The support images (n, h, w, c) of a version, and the position of its blocks' kernel.

    `step` is -1 if the run has no steps.
    """

    version: int
    kernel: int
    images: np.ndarray
    step: int = -1


@dataclasses.dataclass(frozen=True)
class Delivery:
    """Rows to be sent, with a number for their acknowledgement."""

    number: int
    request: messages.PutRows | messages.PutSupport


class Deliveries:
    """The rows that one worker was sent.

    Attributes:
        complete: keys of row sets that the worker has loaded itself.

    Args:
        row_sets: images (n, h, w, c) by key.
        whitening: key of the row set that augmentation needs as a whole; empty if none.
    """

    def __init__(self, row_sets: Mapping[str, np.ndarray], whitening: str = ""):
        self._whitening = whitening
        self.complete: frozenset[str] = frozenset()
        self._row_sets = row_sets
        self._rows: dict[str, np.ndarray] = {}  # key -> state of each row
        self._support: dict[tuple[int, int, int], int] = {}  # (version, start, stop) -> state
        self._in_progress: dict[int, tuple[str, np.ndarray] | tuple[int, int, int]] = {}
        self._num_held: dict[str, int] = {}
        self._last = 0

    def needed(
        self, request: BlockRequest, support: Support | None
    ) -> tuple[list[Delivery], set[int]]:
        """What to send for a block, and the numbers of the deliveries that must arrive before it.

        `support` is None for a block without support images.
        """
        deliveries: list[Delivery] = []
        awaited: set[int] = set()
        columns, wanted = request.columns, []
        if support is not None and not isinstance(request, messages.Prepare):
            wanted.append(self._support_images(support, request.start, request.stop))
            if request.columns_key == messages.SUPPORT_KEY:
                last = int(columns[-1])
                wanted.append(self._support_images(support, int(columns[0]), last + 1))
        if request.columns_key not in (messages.SUPPORT_KEY, *self.complete):
            wanted.append(self._row_set_rows(request.columns_key, columns))
        whitening = self._whitening if request.draw != messages.UNCHANGED else ""
        if whitening and self.share_held(whitening) < 1:
            every = np.arange(len(self._row_sets[whitening]))
            wanted.append(self._row_set_rows(whitening, every))
        for new, numbers in wanted:
            deliveries += new
            awaited |= numbers
        return deliveries, awaited

    def arrived(self, number: int) -> None:
        """Records that the worker has acknowledged a delivery."""
        self._set_state(number, _HELD)

    def lost(self, number: int) -> None:
        """Records that a delivery was lost."""
        self._set_state(number, _ABSENT)

    def forget(self) -> None:
        """Records that the worker holds nothing that it was sent."""
        self._rows.clear()
        self._num_held.clear()
        self._support.clear()

    def forget_support_before(self, version: int) -> None:
        """Forgets old support images, as the workers do."""
        for span in [span for span in self._support if span[0] < version]:
            del self._support[span]

    def share_held(self, key: str) -> float:
        """The share of a row set that the worker holds, 0 to 1."""
        if key in self.complete:
            return 1.0
        return self._num_held.get(key, 0) / max(1, len(self._row_sets[key]))

    def _support_images(
        self, support: Support, start: int, stop: int
    ) -> tuple[list[Delivery], set[int]]:
        span = support.version, start, stop
        state = self._support.get(span, _ABSENT)
        if state == _HELD:
            return [], set()
        if state != _ABSENT:
            return [], {state}
        number = self._number(span)
        self._support[span] = number
        request = messages.PutSupport(
            version=support.version,
            step=support.step,
            kernel=support.kernel,
            total=len(support.images),
            start=start,
            images=support.images[start:stop],
        )
        return [Delivery(number, request)], {number}

    def _row_set_rows(self, key: str, columns: np.ndarray) -> tuple[list[Delivery], set[int]]:
        rows = self._row_sets[key]
        state = self._rows.setdefault(key, np.zeros(len(rows), np.int64))
        awaited = {int(number) for number in np.unique(state[columns]) if number > 0}
        absent = np.unique(columns[state[columns] == _ABSENT])
        step = max(1, PIECE_BYTES // max(1, rows[:1].nbytes))
        deliveries = []
        for first in range(0, len(absent), step):
            index = absent[first : first + step]
            number = self._number((key, index))
            state[index] = number
            request = messages.PutRows(key=key, total=len(rows), index=index, rows=rows[index])
            deliveries.append(Delivery(number, request))
            awaited.add(number)
        return deliveries, awaited

    def _number(self, rows: tuple[str, np.ndarray] | tuple[int, int, int]) -> int:
        self._last += 1
        self._in_progress[self._last] = rows
        return self._last

    def _set_state(self, number: int, state: int) -> None:
        rows = self._in_progress.pop(number)
        if len(rows) == 3:
            if self._support.get(rows) == number:
                self._support[rows] = state
            return
        key, index = rows
        if key in self._rows:
            states = self._rows[key]
            changed = index[states[index] == number]
            states[changed] = state
            if state == _HELD:
                self._num_held[key] = self._num_held.get(key, 0) + len(changed)
