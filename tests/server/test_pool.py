"""The pool over links that answer from threads in random order: results and failures."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_links import Behaviour, FakeLink, cotangents_of, kernel_of
from pool_requests import (
    ROWS,
    SUPPORT,
    block,
    block_vjp,
    blocks,
    check_kernels,
    failing,
    keeps_nothing,
)

from kipper.common import messages
from kipper.common.errors import KipperError, NumericalError, WorkerError
from kipper.common.messages import SUPPORT_KEY, Block, BlockVjp, Cancel, Configure
from kipper.server import batch
from kipper.server.pool import EVALUATION, Pool
from kipper.server.scheduler import rules

OUT_OF_MEMORY = messages.Failure(kind=messages.FAILED, message="out of memory")


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_results_come_in_the_order_of_the_requests(make_pool: Any, num_workers: int) -> None:
    links = [FakeLink(f"w{i}") for i in range(num_workers)]
    pool = make_pool(links)
    version = pool.publish(SUPPORT)
    workers = check_kernels(pool, blocks(version, 120))
    assert workers <= {link.name for link in links}


def test_cotangents_come_back_with_who_computed_them(make_pool: Any) -> None:
    links = [FakeLink("A"), FakeLink("B")]
    pool = make_pool(links)
    version = pool.publish(SUPPORT)
    requests = [
        block_vjp(version, start, key=key) for start in range(6) for key in ("rows", SUPPORT_KEY)
    ]
    answers = list(pool.map((request, "B") for request in requests))
    for request, (reply, worker) in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(reply.rows, cotangents_of(request, SUPPORT.shape[1:]))
        assert len(reply.columns) == (3 if request.columns_key == SUPPORT_KEY else 0)
        link = next(link for link in links if link.name == worker)
        assert any(
            (sent.start, sent.columns_key) == (request.start, request.columns_key)
            for sent in link.requests_of(BlockVjp)
        )


def test_an_empty_map_ends_at_once(make_pool: Any) -> None:
    assert list(make_pool([FakeLink("A")]).map([])) == []


def test_work_is_counted(make_pool: Any) -> None:
    link = FakeLink("A")
    pool = make_pool([link])
    version = pool.publish(SUPPORT)
    requests = [block(version, 0, 5), block(version, 2, 1), block_vjp(version, 4, 3)]
    list(pool.map((request, None) for request in requests))
    assert (pool.counts.kernel_pairs, pool.counts.vjp_pairs) == (12, 6)
    assert (pool.counts.blocks, pool.counts.workers) == (3, 1)
    # Six images of the support, five rows, a cotangent of 2 x 3, and the indices of all.
    images = (6 + 5) * SUPPORT[0].nbytes + 6 * 4
    indices = 8 * (5 + 5 + 1 + 3)
    assert pool.counts.bytes_sent == images + indices
    assert pool.counts.bytes_received == 4 * (10 + 2) + 2 * SUPPORT[0].nbytes


def test_the_engine_that_workers_chose_is_known(make_pool: Any) -> None:
    pool = make_pool([FakeLink("A")])
    check_kernels(pool, [block(pool.publish(SUPPORT), 0)])
    assert pool.engines == {"A": "fake"}


def test_support_images_that_diverged_are_not_published(make_pool: Any) -> None:
    with pytest.raises(NumericalError, match="diverged"):
        make_pool([FakeLink("A")]).publish(np.where(SUPPORT > 40, np.nan, SUPPORT))


# --- order, memory, several maps ------------------------------------------------------------------


def test_a_long_generator_is_not_drawn_far_ahead_of_a_stuck_block(
    make_pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MIN_AHEAD", 8)
    link = FakeLink("A", held=lambda r: isinstance(r, Block) and r.start == 0)
    drawn, drawn_while_stuck = [0], [0]

    def requests() -> Iterator[tuple[Block, None]]:
        for i in range(1000):
            drawn[0] += 1
            yield block(version, min(i, 5)), None

    def on_progress() -> None:
        answered = len(link.requests_of(Block)) - 1
        if not drawn_while_stuck[0] and link.idle and answered == pool.counts.blocks > 5:
            drawn_while_stuck[0] = drawn[0]
            link.release()

    pool = make_pool([link], on_progress=on_progress)
    version = pool.publish(SUPPORT)
    answers = pool.map(requests())
    for received in range(1000):
        next(answers)
        assert drawn[0] - received <= 8
    assert drawn_while_stuck[0] == 8
    assert next(answers, None) is None


def test_blocks_ahead_are_bounded_in_bytes_too(
    make_pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MAX_BYTES_AHEAD", 1)
    drawn = [0]

    def requests() -> Iterator[tuple[Block, None]]:
        for i in range(20):
            drawn[0] += 1
            yield block(version, i % 6), None

    pool = make_pool([FakeLink("A")])
    version = pool.publish(SUPPORT)
    for received, _ in enumerate(pool.map(requests())):
        assert drawn[0] == received + 1


def test_a_map_that_is_closed_early_withdraws_its_blocks(make_pool: Any) -> None:
    stuck = FakeLink("A", held=lambda r: isinstance(r, Block) and r.start == 5)
    pool = make_pool([stuck])
    version = pool.publish(SUPPORT)
    answers = pool.map((block(version, start), None) for start in (0, 5, 1, 5, 2, 5))
    next(answers)
    answers.close()
    assert {request.block for request in stuck.requests_of(Cancel)} <= {1, 2, 3, 4, 5, 6}
    assert len(stuck.requests_of(Cancel)) >= 1
    sent = len(stuck.requests_of(Block))
    stuck.release()
    check_kernels(pool, blocks(version, 30))
    assert len(stuck.requests_of(Block)) == sent + 30
    assert keeps_nothing(pool)


def test_a_map_from_which_nothing_was_drawn_withdraws_its_blocks_too(make_pool: Any) -> None:
    stuck = FakeLink("A", held=lambda r: isinstance(r, Block))
    pool = make_pool([stuck])
    version = pool.publish(SUPPORT)
    answers = pool.map((block(version, start), None) for start in range(6))
    answers.close()
    stuck.release()
    check_kernels(pool, blocks(version, 5))
    assert len(stuck.requests_of(Block)) == 5
    assert keeps_nothing(pool)


def test_a_map_may_end_after_its_pool(make_pool: Any) -> None:
    pool = make_pool([FakeLink("A", held=lambda r: isinstance(r, Block))])
    version = pool.publish(SUPPORT)
    answers = pool.map((block(version, start), None) for start in range(6))
    pool.close()
    answers.close()


def test_answers_that_came_while_the_coordinator_was_busy_are_in_time(
    make_pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "FIRST_DEADLINE_SECONDS", 0.2)
    links = [FakeLink(name, held=lambda r: isinstance(r, Block) and r.start == 1) for name in "AB"]
    pool = make_pool(links)
    version = pool.publish(SUPPORT)
    answers = pool.map((block(version, start), None) for start in (0, 1, 1))
    next(answers)
    while sum(len(link.requests_of(Block)) for link in links) < 3:
        pool.work()
    for link in links:
        link.release()
    time.sleep(0.3)
    pool._last_tick = 0.0  # as if it had been busy for long
    assert len(list(answers)) == 2
    assert pool.scheduler.counters.failed == 0


def test_two_maps_at_once_share_the_workers_and_the_more_urgent_goes_first(make_pool: Any) -> None:
    link = FakeLink("A", held=lambda r: isinstance(r, Block))
    pool = make_pool([link])
    version = pool.publish(SUPPORT)
    evaluation = [block(version, i % 6, columns=1) for i in range(20)]
    step = [block(version, i % 6, columns=2) for i in range(20)]
    started = pool.map(((request, None) for request in evaluation), EVALUATION)
    link.release()
    first, _ = next(started)
    np.testing.assert_array_equal(first.kernel, kernel_of(evaluation[0]))
    check_kernels(pool, step)
    columns = [len(request.columns) for request in link.requests_of(Block)]
    urgent = [position for position, number in enumerate(columns) if number == 2]
    # Of the less urgent, only what was under way when the others came can be in between.
    assert columns[urgent[0] : urgent[-1]].count(1) <= 2
    for request, (reply, _) in zip(evaluation[1:], started, strict=True):
        np.testing.assert_array_equal(reply.kernel, kernel_of(request))


def test_an_error_of_on_progress_ends_the_map(make_pool: Any) -> None:
    def stop() -> None:
        raise KipperError("stop")

    link = FakeLink("A", held=lambda request: isinstance(request, Block))
    pool = make_pool([link], on_progress=stop)
    with pytest.raises(KipperError, match="stop"):
        list(pool.map([(block(pool.publish(SUPPORT), 0), None)]))


# --- failures and malformed replies ---------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_a_block_that_fails_a_few_times_is_still_done(make_pool: Any, times: int) -> None:
    link = FakeLink("A", behaviour=failing(times, OUT_OF_MEMORY))
    pool = make_pool([link])
    check_kernels(pool, [block(pool.publish(SUPPORT), 3)])
    assert len(link.requests_of(Block)) == times + 1
    assert pool.counts.blocks == 1


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_a_block_that_fails_everywhere_ends_the_run_and_its_inputs_are_saved(
    make_pool: Any, num_workers: int, tmp_path: Any
) -> None:
    def fail_one(request: messages.Request) -> Any:
        return OUT_OF_MEMORY if isinstance(request, Block) and request.start == 5 else None

    pool = make_pool([FakeLink(f"w{i}", behaviour=fail_one) for i in range(num_workers)])
    version = pool.publish(SUPPORT)
    with pytest.raises(WorkerError, match="out of memory") as caught:
        list(pool.map((block(version, i % 6, first=4), None) for i in range(50)))
    assert "\n" not in str(caught.value)
    (path,) = (tmp_path / "logs0").glob("quarantine-*.npz")
    with np.load(path) as saved:
        np.testing.assert_array_equal(saved["rows"], SUPPORT[5:7])
        np.testing.assert_array_equal(saved["columns"], ROWS[4:7])
        assert all(reason.endswith("out of memory") for reason in saved["reasons"])


@pytest.mark.parametrize("lost", ["question", "answer"])
def test_messages_that_get_lost_are_sent_again(make_pool: Any, lost: str) -> None:
    def losing() -> Behaviour:
        asked = [0]

        def behave(request: messages.Request) -> Any:
            asked[0] += 1
            damaged = messages.Failure(kind=messages.DAMAGED, message="checksum")
            answer = damaged if lost == "question" else ConnectionError("gone")
            return answer if asked[0] % 4 == 3 and not isinstance(request, Configure) else None

        return behave

    pool = make_pool([FakeLink(name, behaviour=losing()) for name in "AB"])
    version = pool.publish(SUPPORT)
    check_kernels(pool, blocks(version, 100))
    assert pool.scheduler.counters.lost > 10
    assert pool.scheduler.counters.failed == 0


IMAGES = np.zeros((2, 2, 3, 1), np.float32)


def kernel(*shape: int) -> messages.KernelBlock:
    return messages.KernelBlock(kernel=np.zeros(shape, np.float32))


def cotangents(rows: np.ndarray, columns: np.ndarray) -> messages.ImageCotangents:
    return messages.ImageCotangents(rows=rows, columns=columns)


MALFORMED = {
    "wrong shape": (block, kernel(2, 4)),
    "transposed": (block, kernel(3, 2)),
    "one number": (block, kernel(1, 1)),
    "not finite": (block, messages.KernelBlock(kernel=np.full((2, 3), np.nan, np.float32))),
    "done": (block, messages.Done()),
    "cotangents": (block, cotangents(IMAGES, IMAGES[:0])),
    "double": (block, messages.KernelBlock(kernel=np.zeros((2, 3)))),
    "vjp done": (block_vjp, messages.Done()),
    "vjp kernel": (block_vjp, kernel(2, 3)),
    "vjp rows": (block_vjp, cotangents(IMAGES[:1], IMAGES[:0])),
    "vjp pixels": (block_vjp, cotangents(IMAGES[:, :1], IMAGES[:0])),
    "vjp columns": (block_vjp, cotangents(IMAGES, IMAGES[:1])),
    "vjp double": (block_vjp, cotangents(IMAGES.astype(float), IMAGES[:0].astype(float))),
}


@pytest.mark.parametrize("malformed", MALFORMED)
def test_a_malformed_reply_counts_as_a_failure(make_pool: Any, malformed: str) -> None:
    make_request, answer = MALFORMED[malformed]
    link = FakeLink("A", behaviour=failing(2, answer))
    pool = make_pool([link])
    request = make_request(pool.publish(SUPPORT), 3)
    ((reply, _),) = pool.map([(request, None)])
    assert len(link.requests_of(type(request))) == 3
    assert reply is not answer


def test_malformed_replies_only_end_the_run(make_pool: Any) -> None:
    pool: Pool = make_pool([FakeLink("A", behaviour=failing(3, kernel(2, 4)))])
    version = pool.publish(SUPPORT)
    with pytest.raises(WorkerError, match="2x3 block"):
        list(pool.map([(block(version, 3), None)]))
