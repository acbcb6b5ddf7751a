"""The progress of a kernel matrix's blocks, as a map with a letter for each."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from kipper.server.scheduler.ledger import BlockRecord

# States by increasing importance: a cell that stands for several blocks shows the last of theirs.
LETTERS = "Dqrdx"
DONE, QUEUED, RUNNING, DUPLICATED, RETRIED = range(len(LETTERS))
# Limit on the cells of a map; a matrix with more blocks is shown more coarsely.
MAX_CELLS = 4096

MatrixKind = Literal["kernel", "gradient"]
_Span = tuple[int, int]
_Cell = tuple[int, int, int, int]  # first row, end of rows, first column, end of columns


@dataclasses.dataclass(frozen=True)
class Grid:
    """How a matrix is cut into blocks.

    The order of its blocks is that of the tiling: first the triangle of the support, row by row,
    then each range of target rows with all ranges of support images.

    Attributes:
        kind: what is computed.
        support, targets: ranges of support images, and of target rows.
        triangle: whether the blocks of K(support, support) are included.
        urgent: whether a step waits for the matrix.
    """

    kind: MatrixKind
    support: Sequence[_Span]
    targets: Sequence[_Span]
    triangle: bool
    urgent: bool


class FillMap:
    """The states of a grid's blocks, and the numbers of those that are queued or out."""

    def __init__(self, grid: Grid):
        self.grid = grid
        side = len(grid.support)
        self._triangle = np.full((side, side) if grid.triangle else (0, side), QUEUED, np.uint8)
        self._targets = np.full((len(grid.targets), side), QUEUED, np.uint8)
        self._rows, self._columns = np.triu_indices(side if grid.triangle else 0)
        self._cells: dict[int, int] = {}  # block -> position in the grid's order
        self._next = 0
        self._done = 0
        self._withdrawn = False

    @property
    def is_in_progress(self) -> bool:
        """Whether blocks are missing and none was withdrawn."""
        return not self._withdrawn and self._done < len(self._rows) + self._targets.size

    def queued(self, blocks: Iterable[int]) -> None:
        """The grid's next blocks, in its order, got these numbers."""
        for block in blocks:
            self._cells[block] = self._next
            self._next += 1

    def withdrawn(self, blocks: Iterable[int], done: Collection[int]) -> None:
        """These blocks are no longer needed; those in `done` have results."""
        for block in blocks:
            cell = self._cells.pop(block, None)
            if cell is not None:
                self._withdrawn = True
                self._put(cell, DONE if block in done else QUEUED)

    def update(self, ledger: Mapping[int, BlockRecord]) -> None:
        """Updates the states from the scheduler's records."""
        for block, cell in list(self._cells.items()):
            state = state_of(ledger.get(block))
            if state == DONE:
                del self._cells[block]
                self._done += 1
            self._put(cell, state)

    def view(self) -> "MatrixView":
        """An immutable copy."""
        return MatrixView(self.grid, self._triangle.copy(), self._targets.copy())

    def _put(self, cell: int, state: int) -> None:
        in_triangle = len(self._rows)
        if cell < in_triangle:
            self._triangle[self._rows[cell], self._columns[cell]] = state
        elif cell - in_triangle < self._targets.size:
            self._targets.flat[cell - in_triangle] = state


@dataclasses.dataclass(frozen=True, eq=False)
class MatrixView:
    """A map at one moment.

    Attributes:
        triangle: uint8 states of K(support, support), of which the upper triangle counts; empty if
            the grid does not include it.
        targets: uint8 states (target ranges, support ranges) of the other blocks.
    """

    grid: Grid
    triangle: np.ndarray
    targets: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """The response of /api/matrix: at most `MAX_CELLS` cells with a letter each."""
        coarse = 1
        while self._num_cells(coarse) > MAX_CELLS:
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
    """The state of a queued block; the scheduler has no record of blocks that are done."""
    if record is None or record.accepted is not None:
        return DONE
    if len(record.out) > 1:
        return DUPLICATED
    if record.failures or record.losses:
        return RETRIED
    return RUNNING if record.out else QUEUED


def _joined(spans: Sequence[_Span], several: int) -> list[_Span]:
    """Ranges that each join `several` neighbours."""
    starts = range(0, len(spans), several)
    return [(spans[i][0], spans[min(i + several, len(spans)) - 1][1]) for i in starts]


def _coarse(states: np.ndarray, several: int) -> np.ndarray:
    """The most important state of each `several` by `several` neighbours."""
    for axis, length in enumerate(states.shape):
        if several > 1 and length:
            states = np.maximum.reduceat(states, np.arange(0, length, several), axis=axis)
    return states
