"""Kernel matrices and their gradient, assembled from blocks.

Blocks are added in the order of the tiling, never in that of the answers, so that results are
bit-identical for any number of workers.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from kipper.common.messages import (
    SUPPORT_KEY,
    UNCHANGED,
    Block,
    BlockVjp,
    ImageCotangents,
    KernelBlock,
    Prepare,
)
from kipper.server.pool import STEP, BlockReply, Pool
from kipper.server.tiling import Tiling, spans, triangle
from kipper.server.watch.matrix import Grid, MatrixKind

UNNUMBERED = 0  # the pool numbers blocks

# A block with the position of its first column: among the support images for K_ss, among the
# requested rows (not in the row set that they index) for K_ts.
_Placed = tuple[int, Block]


class _Linearised(NamedTuple):
    """What `gradient` pulls back to: support images, the number of targets, and blocks.

    Each block is with the worker that computed it.
    """

    support: np.ndarray
    num_targets: int
    blocks: list[tuple[_Placed, str]]


class DistributedKernel:
    """K(support, support) and K(target, support), computed by a pool of workers.

    Matrices are float64; blocks are computed in the kernel's dtype.
    """

    def __init__(self, pool: Pool, tiling: Tiling):
        self._pool = pool
        self._tiling = tiling
        self._support: np.ndarray | None = None
        self._version = 0
        self._kernel = 0
        self._linearised = _Linearised(np.empty(0), 0, [])

    def set_support(self, images: np.ndarray, kernel: int = 0) -> None:
        """Sets the support images (n, h, w, c), and which of the run's kernels to use.

        Does nothing if both are set already. `gradient` remains that of the last `linearise`, until
        others are set a second time.
        """
        if self._support is not images or self._kernel != kernel:
            self._version = self._pool.publish(images, kernel)
            self._support, self._kernel = images, kernel

    def support_matrix(self) -> np.ndarray:
        """K_ss (n, n)."""
        return self.begin_support_matrix(STEP)()

    def begin_support_matrix(self, priority: int) -> Callable[[], np.ndarray]:
        """Queues the blocks of K_ss; returns a function that waits for them and returns K_ss."""
        num_support = self._num_support
        blocks = list(self._support_blocks(linearise=False))
        computed = self._compute(blocks, self._grid("kernel", [], priority), priority)

        def finish() -> np.ndarray:
            k_ss = np.empty((num_support, num_support))
            with self._pool.phase("evaluation"):
                for (first, block), kernel, _ in computed:
                    _put_symmetric(k_ss, first, block, kernel)
            return k_ss

        return finish

    def target_chunks(
        self, key: str, rows: np.ndarray, priority: int = STEP, start: int = 0
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Yields pairs (span, K_ts[span]) for `rows` (t,) of a row set.

        Memory is O(n * block_target) for any t. The first blocks are queued at once. Rows before
        `start` are left out; if it is the end of a span, the later spans do not depend on it.
        """
        every = spans(len(rows), self._tiling.target)
        row_spans = [(max(first, start), last) for first, last in every if last > start]
        placed = self._target_blocks(key, rows, row_spans, linearise=False)
        grid = self._grid("kernel", row_spans, priority, triangle=False)
        answers = self._pool.map(((block, None) for _, block in placed), priority, grid)
        return self._chunks(row_spans, self._num_support, answers)

    def prefetch(self, key: str, rows: np.ndarray, draw: int = UNCHANGED, kernel: int = 0) -> None:
        """Has idle workers prepare the rows that the next step's `linearise` will need.

        Arguments are those of `linearise`, and the kernel's position among those of the run.
        """
        ahead = (
            Prepare(
                block=UNNUMBERED,
                kernel=kernel,
                columns_key=key,
                draw=draw,
                columns=np.asarray(rows[first:last], np.int64),
            )
            for first, last in self._step_spans(len(rows))
        )
        self._pool.prefetch(ahead)

    def _chunks(
        self,
        row_spans: list[tuple[int, int]],
        num_support: int,
        answers: Iterator[tuple[BlockReply, str]],
    ) -> Iterator[tuple[slice, np.ndarray]]:
        with self._pool.phase("evaluation"):
            for start, stop in row_spans:
                chunk = np.empty((stop - start, num_support))
                for first, last in spans(num_support, self._tiling.support):
                    reply, _ = next(answers)
                    assert isinstance(reply, KernelBlock)
                    chunk[:, first:last] = reply.kernel.T
                yield slice(start, stop), chunk
            assert next(answers, None) is None

    def linearise(
        self, key: str, rows: np.ndarray, draw: int = UNCHANGED
    ) -> tuple[np.ndarray, np.ndarray]:
        """K_ss (n, n) and K_ts (t, n) for `rows` (t,) of a row set; prepares for `gradient`.

        Raw images are augmented with the random draw of step `draw`.
        """
        n = self._num_support
        k_ss, k_ts = np.empty((n, n)), np.empty((len(rows), n))
        target_spans = self._step_spans(len(rows))
        targets = self._target_blocks(key, rows, target_spans, linearise=True, draw=draw)
        placed = [*self._support_blocks(linearise=True), *targets]
        assert self._support is not None
        self._linearised = linearised = _Linearised(self._support, len(rows), [])
        grid = self._grid("kernel", target_spans, STEP)
        with self._pool.phase("forward"):
            for (first, block), kernel, worker in self._compute(placed, grid):
                linearised.blocks.append(((first, block), worker))
                if block.columns_key == SUPPORT_KEY:
                    _put_symmetric(k_ss, first, block, kernel)
                else:
                    k_ts[first : first + len(block.columns), block.start : block.stop] = kernel.T
        return k_ss, k_ts

    def gradient(self, k_ss_cotangent: np.ndarray, k_ts_cotangent: np.ndarray) -> np.ndarray:
        """Pulls cotangents of the last `linearise` back to the support images.

        Args:
            k_ss_cotangent: (n, n); each entry of K_ss counts as independent.
            k_ts_cotangent: (t, n).

        Returns:
            (n, h, w, c) float64.
        """
        support, num_targets, blocks = self._linearised
        gradient = np.zeros(support.shape)
        requests = (
            (_vjp_request(placed, k_ss_cotangent, k_ts_cotangent, support.dtype), worker)
            for placed, worker in blocks
        )
        grid = self._grid("gradient", self._step_spans(num_targets), STEP)
        answers = self._pool.map(requests, STEP, grid)
        with self._pool.phase("backward"):
            for ((_, block), _), (reply, _) in zip(blocks, answers, strict=True):
                assert isinstance(reply, ImageCotangents)
                gradient[block.start : block.stop] += reply.rows
                if block.columns_key == SUPPORT_KEY:
                    gradient[block.columns] += reply.columns
        return gradient

    def _grid(
        self,
        kind: MatrixKind,
        targets: list[tuple[int, int]],
        priority: int,
        triangle: bool = True,
    ) -> Grid:
        """The grid of the blocks that are about to be requested."""
        support = spans(self._num_support, self._tiling.support)
        return Grid(kind, support, targets, triangle, urgent=priority == STEP)

    def _compute(
        self, placed: list[_Placed], grid: Grid, priority: int = STEP
    ) -> Iterator[tuple[_Placed, np.ndarray, str]]:
        """Queues blocks; yields each with its kernel and the worker that computed it."""
        answers = self._pool.map(((block, None) for _, block in placed), priority, grid)
        return (
            (item, reply.kernel, worker)
            for item, (reply, worker) in zip(placed, answers, strict=True)
            if isinstance(reply, KernelBlock)
        )

    @property
    def _num_support(self) -> int:
        assert self._support is not None
        return len(self._support)

    def _support_blocks(self, linearise: bool) -> Iterator[_Placed]:
        """The blocks of the upper triangle."""
        for rows, (first, last) in triangle(self._num_support, self._tiling.support):
            yield first, self._block(rows, SUPPORT_KEY, np.arange(first, last), linearise)

    def _target_blocks(
        self,
        key: str,
        rows: np.ndarray,
        row_spans: list[tuple[int, int]],
        *,
        linearise: bool,
        draw: int = UNCHANGED,
    ) -> Iterator[_Placed]:
        for first, last in row_spans:
            columns = np.asarray(rows[first:last], np.int64)
            for support_rows in spans(self._num_support, self._tiling.support):
                yield first, self._block(support_rows, key, columns, linearise, draw)

    def _step_spans(self, num_targets: int) -> list[tuple[int, int]]:
        return self._tiling.spans_of_step(self._num_support, num_targets)

    def _block(
        self,
        rows: tuple[int, int],
        key: str,
        columns: np.ndarray,
        linearise: bool,
        draw: int = UNCHANGED,
    ) -> Block:
        return Block(
            block=UNNUMBERED,
            version=self._version,
            start=rows[0],
            stop=rows[1],
            columns_key=key,
            draw=draw,
            linearise=linearise,
            columns=columns,
        )


def _put_symmetric(k_ss: np.ndarray, first: int, block: Block, kernel: np.ndarray) -> None:
    rows, columns = slice(block.start, block.stop), slice(first, first + len(block.columns))
    if block.start == first:  # (i, j) and (j, i) may have been rounded differently
        k_ss[rows, columns] = mirrored(kernel)
    else:
        k_ss[rows, columns], k_ss[columns, rows] = kernel, kernel.T


def mirrored(kernel: np.ndarray) -> np.ndarray:
    """The symmetric matrix (n, n) with the upper triangle of `kernel`."""
    return np.triu(kernel) + np.triu(kernel, 1).T


def _vjp_request(
    placed: _Placed, k_ss_cotangent: np.ndarray, k_ts_cotangent: np.ndarray, dtype: np.dtype
) -> BlockVjp:
    first, block = placed
    rows, columns = slice(block.start, block.stop), slice(first, first + len(block.columns))
    if block.columns_key != SUPPORT_KEY:
        cotangent = k_ts_cotangent[columns, rows].T
    elif block.start == first:
        cotangent = k_ss_cotangent[rows, columns]
    else:  # its entries occur in K_ss twice
        cotangent = k_ss_cotangent[rows, columns] + k_ss_cotangent[columns, rows].T
    return BlockVjp(
        block=UNNUMBERED,
        version=block.version,
        start=block.start,
        stop=block.stop,
        columns_key=block.columns_key,
        draw=block.draw,
        columns=block.columns,
        cotangent=np.ascontiguousarray(cotangent, dtype),
    )
