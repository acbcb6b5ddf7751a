"""What of the rows that a block needs is on a worker, on its way there, or yet to be sent."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from kipper.common.messages import (
    SUPPORT_KEY,
    UNCHANGED,
    Block,
    BlockVjp,
    Prepare,
    PutRows,
    PutSupport,
)

# Small messages reuse the transport's buffers: several times the throughput of large ones.
PIECE_BYTES = 4 * 2**20

_ABSENT, _THERE = 0, -1  # beside numbers of deliveries under way, from 1


@dataclasses.dataclass(frozen=True)
class Support:
    """The support images (n, h, w, c) of a step version, and the kernel that its blocks are of.

    `step` is -1 where the run has none.
    """

    version: int
    kernel: int
    images: np.ndarray
    step: int = -1


@dataclasses.dataclass(frozen=True)
class Delivery:
    """Rows to be sent, under a number by which they are acknowledged."""

    number: int
    request: PutRows | PutSupport


class Deliveries:
    """What one worker was sent.

    Attributes:
        complete: keys of row sets that the worker holds anyway.

    Args:
        row_sets: images (n, h, w, c) by key.
        whitening: key of the row set that is needed whole to augment; empty if none is.
    """

    def __init__(self, row_sets: Mapping[str, np.ndarray], whitening: str = ""):
        self._whitening = whitening
        self.complete: frozenset[str] = frozenset()
        self._row_sets = row_sets
        self._rows: dict[str, np.ndarray] = {}  # key -> state of each row
        self._support: dict[tuple[int, int, int], int] = {}  # (version, start, stop) -> state
        self._under_way: dict[int, tuple[str, np.ndarray] | tuple[int, int, int]] = {}
        self._num_there: dict[str, int] = {}
        self._last = 0

    def needed(
        self, request: Block | BlockVjp | Prepare, support: Support | None
    ) -> tuple[list[Delivery], set[int]]:
        """What must be sent for a block, and the deliveries that must arrive before it.

        `support` is None for a block without rows.
        """
        deliveries: list[Delivery] = []
        awaited: set[int] = set()
        columns, wanted = request.columns, []
        if support is not None and not isinstance(request, Prepare):
            wanted.append(self._of_support(support, request.start, request.stop))
            if request.columns_key == SUPPORT_KEY:
                last = int(columns[-1])
                wanted.append(self._of_support(support, int(columns[0]), last + 1))
        if request.columns_key not in (SUPPORT_KEY, *self.complete):
            wanted.append(self._of_rows(request.columns_key, columns))
        if request.draw != UNCHANGED and self._whitening and self._lacks_whitening():
            every = np.arange(len(self._row_sets[self._whitening]))
            wanted.append(self._of_rows(self._whitening, every))
        for more, also in wanted:
            deliveries += more
            awaited |= also
        return deliveries, awaited

    def arrived(self, number: int) -> None:
        """The worker has acknowledged a delivery."""
        self._note(number, _THERE)

    def lost(self, number: int) -> None:
        """It has not, and will not."""
        self._note(number, _ABSENT)

    def forget(self) -> None:
        """The worker holds nothing of what it was sent."""
        self._rows.clear()
        self._num_there.clear()
        self._support.clear()

    def forget_support_before(self, version: int) -> None:
        """Workers keep the newest versions only."""
        for span in [span for span in self._support if span[0] < version]:
            del self._support[span]

    def share_there(self, key: str) -> float:
        """How much of a row set is on the worker, 0 to 1."""
        if key in self.complete:
            return 1.0
        return self._num_there.get(key, 0) / max(1, len(self._row_sets[key]))

    def _lacks_whitening(self) -> bool:
        return self.share_there(self._whitening) < 1

    def _of_support(
        self, support: Support, start: int, stop: int
    ) -> tuple[list[Delivery], set[int]]:
        span = support.version, start, stop
        state = self._support.get(span, _ABSENT)
        if state == _THERE:
            return [], set()
        if state != _ABSENT:
            return [], {state}
        number = self._number(span)
        self._support[span] = number
        request = PutSupport(
            version=support.version,
            step=support.step,
            kernel=support.kernel,
            total=len(support.images),
            start=start,
            images=support.images[start:stop],
        )
        return [Delivery(number, request)], {number}

    def _of_rows(self, key: str, columns: np.ndarray) -> tuple[list[Delivery], set[int]]:
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
            request = PutRows(key=key, total=len(rows), index=index, rows=rows[index])
            deliveries.append(Delivery(number, request))
            awaited.add(number)
        return deliveries, awaited

    def _number(self, what: tuple[str, np.ndarray] | tuple[int, int, int]) -> int:
        self._last += 1
        self._under_way[self._last] = what
        return self._last

    def _note(self, number: int, state: int) -> None:
        what = self._under_way.pop(number)
        if len(what) == 3:
            if self._support.get(what) == number:
                self._support[what] = state
            return
        key, index = what
        if key in self._rows:
            of_rows = self._rows[key]
            noted = index[of_rows[index] == number]
            of_rows[noted] = state
            if state == _THERE:
                self._num_there[key] = self._num_there.get(key, 0) + len(noted)
