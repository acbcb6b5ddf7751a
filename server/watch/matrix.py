"""How far the blocks of a kernel matrix are, as a map with a letter for each."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kipper.server.scheduler.ledger import BlockRecord

# In order of what is worth knowing: where one cell stands for several blocks, it has the last.
LETTERS = "Dqrdx"
DONE, QUEUED, RUNNING, TWICE, AGAIN = range(len(LETTERS))
# Of one map. A matrix of more blocks is shown more coarsely.
MOST_CELLS = 4096

_Span = tuple[int, int]
_Cell = tuple[int, int, int, int]  # first row, row after the last; the same of columns


@dataclasses.dataclass(frozen=True)
class Grid:
    """How a matrix is cut into blocks.

    Its blocks come in the order of the tiling: those of the support's triangle row by row, then
    target rows after target rows, each with all support images.

    Attributes:
        kind: "kernel" or "gradient".
        support, targets: row ranges of the support images, and of the target rows.
        triangle: whether blocks of K(support, support) are among them.
        urgent: whether a step waits for them.
    """

    kind: str
    support: Sequence[_Span]
    targets: Sequence[_Span]
    triangle: bool
    urgent: bool


class FillMap:
    """The states of a grid's blocks, a byte each; of those queued and not done, their numbers."""

    def __init__(self, grid: Grid):
        self.grid = grid
        side = len(grid.support)
        self._triangle = np.full((side, side) if grid.triangle else (0, side), QUEUED, np.uint8)
        self._targets = np.full((len(grid.targets), side), QUEUED, np.uint8)
        self._rows, self._columns = np.triu_indices(side if grid.triangle else 0)
        self._cells: dict[int, int] = {}  # block to its place in the order of the tiling
        self._next = 0
        self._done = 0
        self._withdrawn = False

    @property
    def is_under_way(self) -> bool:
        """Whether some of it is wanted and not there."""
        return not self._withdrawn and self._done < len(self._rows) + self._targets.size

    def queued(self, blocks: Iterable[int]) -> None:
        """The next blocks of the grid, in its order, got these numbers."""
        for block in blocks:
            self._cells[block] = self._next
            self._next += 1

    def withdrawn(self, blocks: Iterable[int], done: Collection[int]) -> None:
        """These are not wanted any more, nor what was not queued; those in `done` are there."""
        for block in blocks:
            cell = self._cells.pop(block, None)
            if cell is not None:
                self._withdrawn = True
                self._put(cell, DONE if block in done else QUEUED)

    def look(self, ledger: Mapping[int, BlockRecord]) -> None:
        """Brings states up to date with what the scheduler knows of blocks."""
        for block, cell in list(self._cells.items()):
            state = state_of(ledger.get(block))
            if state == DONE:
                del self._cells[block]
                self._done += 1
            self._put(cell, state)

    def picture(self) -> "Picture":
        """As it is now."""
        return Picture(self.grid, self._triangle.copy(), self._targets.copy())

    def _put(self, cell: int, state: int) -> None:
        of_support = len(self._rows)
        if cell < of_support:
            self._triangle[self._rows[cell], self._columns[cell]] = state
        elif cell - of_support < self._targets.size:
            self._targets.flat[cell - of_support] = state


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A map that does not change any more.

    Attributes:
        triangle: uint8 states of the blocks of K(support, support), of which the upper half counts;
            (0, …) where they are not asked for.
        targets: of the others (target ranges, support ranges).
    """

    grid: Grid
    triangle: np.ndarray
    targets: np.ndarray

    def shown(self) -> dict[str, Any]:
        """As /api/matrix has it: at most `MOST_CELLS` cells, and a letter for each."""
        coarse = 1
        while self._num_cells(coarse) > MOST_CELLS:
            coarse += 1
        support = _joined(self.grid.support, coarse)
        targets = _joined(self.grid.targets, coarse)
        num_support = self.grid.support[-1][1] if self.grid.support else 0
        origin = self.grid.targets[0][0] if self.grid.targets else 0
        cells: list[_Cell] = []
        states: list[int] = []
        if len(self.triangle):
            square = _coarse(np.triu(self.triangle), coarse)
            upper = np.triu_indices(len(support))
            cells += [(*support[i], *support[j]) for i, j in zip(*upper, strict=True)]
            states += square[upper].tolist()
        for span, row in zip(targets, _coarse(self.targets, coarse), strict=True):
            first, last = (num_support + edge - origin for edge in span)
            cells += [(*rows, first, last) for rows in support]
            states += row.tolist()
        return {
            "kind": self.grid.kind,
            "support": num_support,
            "targets": self.grid.targets[-1][1] - origin if self.grid.targets else 0,
            "cells": cells,
            "states": "".join(LETTERS[state] for state in states),
        }

    def _num_cells(self, coarse: int) -> int:
        side, rows = (-(-length // coarse) for length in self.targets.shape[::-1])
        return rows * side + (side * (side + 1) // 2 if len(self.triangle) else 0)


def state_of(record: BlockRecord | None) -> int:
    """The state of a block that was queued, from the scheduler's record of it, if it has one."""
    if record is None or record.accepted is not None:
        return DONE
    if len(record.out) > 1:
        return TWICE
    if record.failures or record.losses:
        return AGAIN
    return RUNNING if record.out else QUEUED


def _joined(spans: Sequence[_Span], several: int) -> list[_Span]:
    """Ranges of `several` neighbours each."""
    starts = range(0, len(spans), several)
    return [(spans[i][0], spans[min(i + several, len(spans)) - 1][1]) for i in starts]


def _coarse(states: np.ndarray, several: int) -> np.ndarray:
    """The last state of `several` times `several` neighbours."""
    for axis, length in enumerate(states.shape):
        if several > 1 and length:
            states = np.maximum.reduceat(states, np.arange(0, length, several), axis=axis)
    return states
