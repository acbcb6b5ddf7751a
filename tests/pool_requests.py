"""Requests for pools over fake links, and the check of their results."""

from typing import Any

import numpy as np
from fake_links import BLOCK_KINDS, Behaviour, kernel_of

from kipper.common import messages
from kipper.common.messages import UNCHANGED, Block, BlockVjp
from kipper.server.pool import STEP, Pool

CONFIGURE = messages.Configure(
    protocol_version=messages.PROTOCOL_VERSION,
    run="",
    architectures=["fc1"],
    kind="ntk",
    dtype="float32",
    engine="auto",
    threads=1,
    augment="",
    seed=0,
    whitening="",
    mean=np.zeros(0),
    std=np.zeros(0),
)
SUPPORT = np.arange(8 * 6, dtype=np.float32).reshape(8, 2, 3, 1)
ROWS = np.arange(12 * 6, dtype=np.float32).reshape(12, 2, 3, 1)
ROW_SETS = {"rows": ROWS}


def block(version: int, start: int, columns: int = 3, key: str = "rows", first: int = 0) -> Block:
    """Two rows of the support by some rows of a row set."""
    return Block(
        block=0,
        version=version,
        start=start,
        stop=start + 2,
        columns_key=key,
        draw=UNCHANGED,
        linearise=False,
        columns=np.arange(first, first + columns),
    )


def block_vjp(version: int, start: int, columns: int = 3, key: str = "rows") -> BlockVjp:
    return BlockVjp(
        block=0,
        version=version,
        start=start,
        stop=start + 2,
        columns_key=key,
        draw=UNCHANGED,
        columns=np.arange(columns),
        cotangent=np.full((2, columns), 0.5, np.float32),
    )


def blocks(version: int, number: int) -> list[Block]:
    return [block(version, i % 7, columns=1 + i % 5, first=i % 6) for i in range(number)]


def failing(times: int, answer: Any) -> Behaviour:
    """The first so many blocks are answered with `answer`."""
    left = [times]

    def behave(request: messages.Request) -> Any:
        if not isinstance(request, BLOCK_KINDS) or not left[0]:
            return None
        left[0] -= 1
        return answer

    return behave


def check_kernels(pool: Pool, requests: list[Block], priority: int = STEP) -> set[str]:
    """All results must be right and in order; returns who computed them."""
    answers = list(pool.map(((request, None) for request in requests), priority))
    assert len(answers) == len(requests)
    for request, (reply, _) in zip(requests, answers, strict=True):
        assert isinstance(reply, messages.KernelBlock)
        np.testing.assert_array_equal(reply.kernel, kernel_of(request))
    return {worker for _, worker in answers}


def keeps_nothing(pool: Pool) -> bool:
    """Whether the pool has forgotten every block, answer and result; only its memory shows it."""
    return not (pool._blocks or pool._answers or pool._results)
