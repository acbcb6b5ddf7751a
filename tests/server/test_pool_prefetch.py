"""Rows brought to idle workers before the step that needs them."""

from typing import Any

import numpy as np
import pytest
from fake_links import FakeLink
from pool_requests import ROW_SETS, SUPPORT, block, check_kernels, keeps_nothing

from kipper.common import messages
from kipper.common.messages import UNCHANGED, Block, Prepare, PutRows
from kipper.server.scheduler import rules


def ahead(first: int, columns: int = 3) -> Prepare:
    return Prepare(
        block=0,
        kernel=0,
        columns_key="rows",
        draw=UNCHANGED,
        columns=np.arange(first, first + columns),
    )


def test_the_next_step_finds_its_rows_there(make_pool: Any) -> None:
    link = FakeLink("A")  # one alone, since which of two gets a block is the scheduler's matter
    pool = make_pool([link])
    version = pool.publish(SUPPORT)
    check_kernels(pool, [block(version, 0)])
    pool.prefetch([ahead(3), ahead(6)])
    while len(link.requests_of(Prepare)) < 2 or not link.idle:
        pool.work()
    sent = len(link.requests_of(PutRows))
    assert sent == 3
    version = pool.publish(SUPPORT + 1)
    check_kernels(pool, [block(version, 0, first=3), block(version, 0, first=6)])
    assert len(link.requests_of(PutRows)) == sent
    assert link.resent == []


def test_it_goes_last(make_pool: Any) -> None:
    link = FakeLink("A")
    pool = make_pool([link])
    version = pool.publish(SUPPORT)
    pool.prefetch([ahead(3), ahead(6)])
    check_kernels(pool, [block(version, i) for i in range(6)])
    assert len(link.requests_of(Block)) == 6
    order = [type(r) for r in link.requests_of(Block, Prepare)]
    last = max(i for i, kind in enumerate(order) if kind is Block)
    assert Prepare not in order[1:last]  # the first may have gone when there was nothing else


def test_prefetches_that_have_not_begun_are_cancelled_with_the_step(make_pool: Any) -> None:
    link = FakeLink("A", held=lambda r: isinstance(r, Prepare))
    pool = make_pool([link])
    pool.publish(SUPPORT)
    pool.prefetch([ahead(0), ahead(3), ahead(6)])
    while not link.requests_of(Prepare):
        pool.work()
    version = pool.publish(SUPPORT)
    assert len(link.requests_of(messages.Cancel)) == 1
    link.release()
    check_kernels(pool, [block(version, 0)])
    assert len(link.requests_of(Prepare)) == 1
    assert keeps_nothing(pool)


@pytest.mark.parametrize(
    "answer", [ConnectionError("cable pulled"), messages.Failure(kind="failed", message="no")]
)
def test_it_may_fail_without_consequence(make_pool: Any, answer: Any) -> None:
    link = FakeLink("A", behaviour=lambda r: answer if isinstance(r, Prepare) else None)
    pool = make_pool([link])
    pool.publish(SUPPORT)
    pool.prefetch([ahead(3 * i) for i in range(rules.LOST_IN_A_ROW - 3)])
    while len(link.requests_of(Prepare)) < rules.LOST_IN_A_ROW - 3 or not link.idle:
        pool.work()
    version = pool.publish(SUPPORT)
    check_kernels(pool, [block(version, i) for i in range(4)])
    assert pool.scheduler.counters.failed == 0


def test_rows_that_every_worker_holds_are_not_brought(make_pool: Any) -> None:
    links = [FakeLink(name, row_keys=tuple(ROW_SETS)) for name in "AB"]
    pool = make_pool(links)
    version = pool.publish(SUPPORT)
    check_kernels(pool, [block(version, 0)])
    pool._shares_until = 0.0  # as if the time to look again had come
    pool.prefetch([ahead(0)])
    check_kernels(pool, [block(version, i) for i in range(4)])
    assert not any(link.requests_of(Prepare) for link in links)
