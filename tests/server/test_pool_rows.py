"""What a pool's workers hold: rows sent where a block needs them, once, before the block."""

from typing import Any

import numpy as np
import pytest
from fake_links import FakeLink
from pool_requests import ROWS, SUPPORT, block, blocks, check_kernels, failing

from kipper.common import messages
from kipper.common.messages import SUPPORT_KEY, Block, Cancel, Configure, PutRows, PutSupport
from kipper.server.deliveries import PIECE_BYTES
from kipper.server.scheduler import rules


def test_a_worker_is_sent_only_the_rows_that_its_blocks_need(make_pool: Any) -> None:
    link = FakeLink("A")
    pool = make_pool([link])
    version = pool.publish(SUPPORT)
    check_kernels(pool, [block(version, 4, columns=2, first=7)])
    (rows,) = link.requests_of(PutRows)
    assert (rows.key, rows.total, rows.index.tolist()) == ("rows", len(ROWS), [7, 8])
    np.testing.assert_array_equal(rows.rows, ROWS[7:9])
    (support,) = link.requests_of(PutSupport)
    assert (support.version, support.total, support.start) == (version, len(SUPPORT), 4)
    np.testing.assert_array_equal(support.images, SUPPORT[4:6])


def test_the_columns_of_a_support_block_are_sent_as_support(make_pool: Any) -> None:
    link = FakeLink("A")
    pool = make_pool([link])
    version = pool.publish(SUPPORT)
    check_kernels(pool, [block(version, 0, columns=3, key=SUPPORT_KEY, first=5)])
    assert link.requests_of(PutRows) == []
    assert sorted(p.start for p in link.requests_of(PutSupport)) == [0, 5]


def test_nothing_is_sent_twice_to_a_worker(make_pool: Any) -> None:
    links = [FakeLink(name) for name in "ABC"]
    pool = make_pool(links)
    for step in range(4):
        version = pool.publish(SUPPORT + step)
        check_kernels(pool, [block(version, 2 * (i % 4), first=i % 9) for i in range(60)])
    for link in links:
        assert link.resent == []
        rows = [row for put in link.requests_of(PutRows) for row in put.index.tolist()]
        assert len(rows) == len(set(rows))  # the same in every step


def test_each_version_of_the_support_is_sent_as_it_is(make_pool: Any) -> None:
    links = [FakeLink(name) for name in "AB"]
    pool = make_pool(links)
    for step in range(5):
        images = SUPPORT + step
        version = pool.publish(images)
        assert version == step + 1
        check_kernels(pool, blocks(version, 30))
    for link in links:
        for put in link.requests_of(PutSupport):
            expected = SUPPORT[put.start : put.start + len(put.images)] + (put.version - 1)
            np.testing.assert_array_equal(put.images, expected)


def test_a_block_waits_for_its_rows_and_others_do_not_wait_for_it(make_pool: Any) -> None:
    def late(request: messages.Request) -> bool:
        return isinstance(request, PutRows) and 11 in request.index

    link = FakeLink("A", held=late)
    released = [False]

    def on_progress() -> None:
        done = {request.start for request in link.requests_of(Block)}
        if done == {2, 3} and link.idle and not released[0]:
            released[0] = True
            link.release()

    pool = make_pool([link], on_progress=on_progress)
    version = pool.publish(SUPPORT)
    requests = [block(version, 1, columns=1, first=11), block(version, 2), block(version, 3)]
    check_kernels(pool, requests)
    assert [request.start for request in link.requests_of(Block)][-1] == 1


def test_a_worker_still_being_set_up_gets_the_newest_images_alone(make_pool: Any) -> None:
    link = FakeLink("A", held=lambda r: isinstance(r, Configure))
    pool = make_pool([link])
    for step in range(3):
        version = pool.publish(SUPPORT + step)
    link.release()
    check_kernels(pool, blocks(version, 10))
    assert {put.version for put in link.requests_of(PutSupport)} == {3}
    assert len(link.requests_of(Configure)) == 1


def test_row_sets_a_worker_holds_are_not_sent(make_pool: Any) -> None:
    sets = {name: np.full((9, 2, 3, 1), i, np.float32) for i, name in enumerate("xyz")}
    links = [FakeLink("A", row_keys=("y", "stranger")), FakeLink("B", row_keys=tuple("xyz"))]
    pool = make_pool(links, sets)
    version = pool.publish(SUPPORT)
    check_kernels(pool, [block(version, i % 7, key="xyz"[i % 3]) for i in range(60)])
    assert {put.key for put in links[0].requests_of(PutRows)} <= {"x", "z"}
    assert links[1].requests_of(PutRows) == []


@pytest.mark.parametrize("shape", [(1000, 32, 32, 3), (3, 1, 1, 1), (2, 600, 600, 1), (1, 2, 2, 2)])
def test_rows_arrive_whole_in_pieces_of_bounded_size(make_pool: Any, shape: Any) -> None:
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    link = FakeLink("A")
    pool = make_pool([link], {"key": rows})
    check_kernels(pool, [block(pool.publish(SUPPORT), 0, columns=len(rows), key="key")])
    received = np.zeros_like(rows)
    pieces = link.requests_of(PutRows)
    for put in pieces:
        assert (put.key, put.total) == ("key", len(rows))
        assert put.rows.nbytes <= PIECE_BYTES or len(put.rows) == 1
        received[put.index] += put.rows
    np.testing.assert_array_equal(received, rows)
    assert len(pieces) <= 2 * rows.nbytes // PIECE_BYTES + 2


def test_rows_that_a_worker_lost_are_sent_again(make_pool: Any) -> None:
    link = FakeLink("A")
    pool = make_pool([link])
    version = pool.publish(SUPPORT)
    check_kernels(pool, blocks(version, 20))
    link.forget_rows()
    check_kernels(pool, blocks(version, 20))
    assert pool.scheduler.counters.lost >= 1
    assert pool.scheduler.counters.failed == 0


@pytest.mark.parametrize("kind", [PutRows, PutSupport])
@pytest.mark.parametrize(
    "answer",
    [ConnectionError("cable pulled"), messages.Failure(kind=messages.DAMAGED, message="checksum")],
)
def test_rows_that_get_lost_are_sent_again(make_pool: Any, kind: type, answer: Any) -> None:
    lost = [3]

    def behave(request: messages.Request) -> Any:
        if isinstance(request, kind) and lost[0]:
            lost[0] -= 1
            return answer
        return None

    link = FakeLink("A", behaviour=behave)
    pool = make_pool([link])
    version = pool.publish(SUPPORT)
    check_kernels(pool, [block(version, 2 * (i % 4), first=3 * (i % 3)) for i in range(20)])
    assert lost == [0]
    assert link.resent == []  # what was lost never came


@pytest.mark.parametrize("answer", [messages.ImageCotangents(SUPPORT, SUPPORT)])
@pytest.mark.parametrize("kind", [PutRows, PutSupport])
def test_a_worker_that_answers_rows_with_nonsense_fails_its_blocks(
    make_pool: Any, kind: type, answer: Any
) -> None:
    broken = FakeLink("A", behaviour=lambda r: answer if isinstance(r, kind) else None)
    pool = make_pool([broken, FakeLink("B")])
    assert check_kernels(pool, blocks(pool.publish(SUPPORT), 20)) == {"B"}
    assert broken.requests_of(Block) == []


def test_a_block_taken_back_while_its_rows_travel_is_not_sent(make_pool: Any) -> None:
    link = FakeLink("A", held=lambda r: isinstance(r, PutRows))
    pool = make_pool([link])
    version = pool.publish(SUPPORT)
    answers = pool.map([(block(version, 0), None)])
    check_kernels(pool, [block(version, 4, key=SUPPORT_KEY)])
    assert len(link.requests_of(PutRows)) == 1
    answers.close()
    link.release()
    check_kernels(pool, [block(version, 2), block(version, 6)])
    assert [request.start for request in link.requests_of(Block)] == [4, 2, 6]
    assert link.requests_of(Cancel) == []


def test_a_block_whose_rows_travel_too_long_is_done_elsewhere_alone(
    make_pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "FIRST_DEADLINE_SECONDS", 0.2)
    monkeypatch.setattr(rules, "MIN_DEADLINE_SECONDS", 60.0)
    late = FakeLink("A", held=lambda r: isinstance(r, PutRows))
    pool = make_pool([late])
    version = pool.publish(SUPPORT)
    answers = pool.map([(block(version, 0), None)])
    while not late.requests_of(PutRows):
        pool.work()
    other = FakeLink("B", held=lambda r: isinstance(r, Block))
    pool.join(other)
    while not other.requests_of(Block):
        pool.work()
    late.release()
    while pool._roster.workers["A"].held_back:  # until the reply to the late rows is handled
        pool.work()
    other.release()
    assert [worker for _, worker in answers] == ["B"]
    assert late.requests_of(Block) == []


def test_a_step_costs_each_worker_the_support_once_and_what_it_computes(make_pool: Any) -> None:
    links = [FakeLink(name) for name in "ABCD"]
    pool = make_pool(links)
    for step in range(3):
        version = pool.publish(SUPPORT + step)
        requests = [block(version, 2 * (i % 4), first=3 * (i // 4 % 4)) for i in range(64)]
        check_kernels(pool, requests)
    indices = 3 * 64 * 3 * 8
    rows = ROWS.nbytes + 8 * len(ROWS)  # which stay
    assert pool.counts.bytes_sent <= 4 * (3 * SUPPORT.nbytes + rows) + indices


def test_a_failed_block_leaves_the_rows_where_they_are(make_pool: Any) -> None:
    failure = messages.Failure(kind=messages.FAILED, message="out of memory")
    link = FakeLink("A", behaviour=failing(1, failure))
    pool = make_pool([link])
    check_kernels(pool, [block(pool.publish(SUPPORT), 0)])
    assert len(link.requests_of(PutRows)) == len(link.requests_of(PutSupport)) == 1
