"""The pool over links that answer from threads in random order."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_links import Behaviour, FakeLink, cotangents_of, kernel_of

from kipper.common import messages
from kipper.common.errors import KipperError, WorkerError
from kipper.common.messages import Block, BlockVjp, Configure, PutRows, PutSupport
from kipper.common.wire import content_key
from kipper.server.pool import PIECE_BYTES, Pool

CONFIGURE = Configure(
    protocol_version=messages.PROTOCOL_VERSION,
    architecture="fc1",
    kind="ntk",
    dtype="float32",
    engine="auto",
    threads=1,
)
SUPPORT = np.arange(8 * 6, dtype=np.float32).reshape(8, 2, 3, 1)
BLOCK_KINDS = (Block, BlockVjp)


@pytest.fixture
def make_pool() -> Iterator[Any]:
    """Makes pools that are closed at the end; links must have noted no fault by then."""
    made: list[tuple[Pool, list[FakeLink]]] = []

    def make(links: list[FakeLink], row_sets: Any = None, **options: Any) -> Pool:
        made.append((Pool(links, CONFIGURE, row_sets or {}, **options), links))
        return made[-1][0]

    yield make
    for pool, links in made:
        pool.close()
        assert all(link.closed for link in links)
        assert [fault for link in links for fault in link.faults] == []


def block(version: int, start: int, columns: int = 3, key: str = "rows") -> Block:
    return Block(
        version=version,
        start=start,
        stop=start + 2,
        columns_key=key,
        linearise=False,
        columns=np.arange(columns),
    )


def block_vjp(version: int, start: int, columns: int = 3) -> BlockVjp:
    return BlockVjp(
        version=version,
        start=start,
        stop=start + 2,
        columns_key="rows",
        columns=np.arange(columns),
        cotangent=np.full((2, columns), 0.5, np.float32),
    )


def failing(times: int, answer: Any) -> Behaviour:
    """The first so many blocks are answered with `answer`."""
    left = [times]

    def behave(request: messages.Request) -> Any:
        if not isinstance(request, BLOCK_KINDS) or not left[0]:
            return None
        left[0] -= 1
        return answer

    return behave


def check_kernels(pool: Pool, requests: list[Block]) -> set[str]:
    """All results must be right and in order; returns who computed them."""
    answers = list(pool.map((request, None) for request in requests))
    assert len(answers) == len(requests)
    for request, (reply, _) in zip(requests, answers, strict=True):
        assert isinstance(reply, messages.KernelBlock)
        np.testing.assert_array_equal(reply.kernel, kernel_of(request))
    return {worker for _, worker in answers}


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_results_come_in_the_order_of_the_requests(make_pool: Any, num_workers: int) -> None:
    links = [FakeLink(f"w{i}") for i in range(num_workers)]
    pool = make_pool(links)
    version = pool.publish(SUPPORT)
    workers = check_kernels(pool, [block(version, i % 7, columns=i % 5) for i in range(120)])
    assert workers <= {link.name for link in links}


def test_cotangents_come_back_with_who_computed_them(make_pool: Any) -> None:
    links = [FakeLink("A"), FakeLink("B")]
    pool = make_pool(links)
    version = pool.publish(SUPPORT)
    requests = [block_vjp(version, start) for start in range(6)]
    answers = list(pool.map((request, "B") for request in requests))
    for request, (reply, worker) in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(reply.rows, cotangents_of(request, SUPPORT.shape[1:]))
        link = next(link for link in links if link.name == worker)
        assert any(sent is request for sent in link.requests)


def test_an_empty_map_ends_at_once(make_pool: Any) -> None:
    assert list(make_pool([FakeLink("A")]).map([])) == []


def test_what_was_done_is_counted(make_pool: Any) -> None:
    pool = make_pool([FakeLink("A"), FakeLink("B")])
    version = pool.publish(SUPPORT)
    requests = [block(version, 0, 5), block(version, 2, 1), block_vjp(version, 4, 3)]
    list(pool.map((request, None) for request in requests))
    assert (pool.counts.kernel_pairs, pool.counts.vjp_pairs) == (12, 6)
    assert (pool.counts.blocks, pool.counts.workers) == (3, 2)


def test_a_long_generator_is_not_drawn_far_ahead_of_a_stuck_block(make_pool: Any) -> None:
    link = FakeLink("A", held=lambda r: isinstance(r, Block) and r.start == 0)
    drawn, drawn_while_stuck = [0], [0]

    def requests() -> Iterator[tuple[Block, None]]:
        for i in range(1000):
            drawn[0] += 1
            yield block(version, min(i, 5)), None

    def on_progress() -> None:
        answered = len(link.requests_of(Block)) - 1
        if not drawn_while_stuck[0] and link.idle and answered == pool.counts.blocks > 0:
            drawn_while_stuck[0] = drawn[0]
            link.release()

    pool = make_pool([link], on_progress=on_progress)
    version = pool.publish(SUPPORT)
    answers = pool.map(requests())
    for received in range(1000):
        next(answers)
        assert drawn[0] - received <= 8
    assert 2 < drawn_while_stuck[0] <= 8  # four windows of two blocks
    assert next(answers, None) is None


# --- losing workers -------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 7])
def test_the_blocks_of_an_unreachable_worker_are_done_by_the_other(
    make_pool: Any, after: int
) -> None:
    seen = [0]

    def unreachable_after(request: messages.Request) -> Any:
        seen[0] += isinstance(request, Block)
        return ConnectionError("cable pulled") if seen[0] > after else None

    links = [FakeLink("A", behaviour=unreachable_after), FakeLink("B")]
    pool = make_pool(links)
    version = pool.publish(SUPPORT)
    requests = [block(version, i % 7) for i in range(200)]
    assert "B" in check_kernels(pool, requests)
    if pool.counts.workers == 1:
        assert check_kernels(pool, requests[:9]) == {"B"}
    assert pool.counts.blocks in (200, 209)


@pytest.mark.parametrize(
    "answer", [ConnectionError("cable pulled"), messages.Failure(message="another protocol")]
)
@pytest.mark.parametrize("kind", [Configure, PutRows, PutSupport])
def test_a_worker_that_cannot_be_set_up_is_done_without(
    make_pool: Any, kind: type, answer: Any
) -> None:
    rows = np.zeros((4, 1, 1, 1), np.float32)
    broken = FakeLink("A", behaviour=lambda r: answer if isinstance(r, kind) else None)
    pool = make_pool([broken, FakeLink("B")], {content_key(rows): rows})
    version = pool.publish(SUPPORT)
    assert check_kernels(pool, [block(version, i % 7) for i in range(20)]) == {"B"}
    assert broken.requests_of(Block) == []


def test_losing_every_worker_ends_the_run_with_the_reason(make_pool: Any) -> None:
    error = ConnectionError("cable pulled")
    links = [FakeLink(name, behaviour=failing(1, error)) for name in "AB"]
    pool = make_pool(links)
    version = pool.publish(SUPPORT)
    with pytest.raises(WorkerError, match=r"no worker is left.*cable pulled"):
        list(pool.map((block(version, i % 7), None) for i in range(50)))


@pytest.mark.parametrize("kind", [Configure, PutSupport])
@pytest.mark.parametrize("answer", [messages.ImageCotangents(SUPPORT, SUPPORT)])
def test_a_worker_that_answers_the_set_up_with_nonsense_is_done_without(
    make_pool: Any, kind: type, answer: Any
) -> None:
    broken = FakeLink("A", behaviour=lambda r: answer if isinstance(r, kind) else None)
    pool = make_pool([broken, FakeLink("B")])
    version = pool.publish(SUPPORT)
    assert check_kernels(pool, [block(version, i % 7) for i in range(20)]) == {"B"}


# --- failures and malformed replies ---------------------------------------------------------------


def test_a_block_that_fails_twice_is_still_done(make_pool: Any) -> None:
    link = FakeLink("A", behaviour=failing(2, messages.Failure(message="out of memory")))
    pool = make_pool([link])
    check_kernels(pool, [block(pool.publish(SUPPORT), 3)])
    assert len(link.requests_of(Block)) == 3
    assert pool.counts.blocks == 1


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_block_that_fails_thrice_ends_the_run_with_its_message(
    make_pool: Any, num_workers: int
) -> None:
    def fail_one(request: messages.Request) -> Any:
        is_cursed = isinstance(request, Block) and request.start == 5
        return messages.Failure(message="out of memory") if is_cursed else None

    pool = make_pool([FakeLink(f"w{i}", behaviour=fail_one) for i in range(num_workers)])
    version = pool.publish(SUPPORT)
    with pytest.raises(WorkerError, match="out of memory") as caught:
        list(pool.map((block(version, i % 6), None) for i in range(50)))
    assert "\n" not in str(caught.value)


IMAGES = np.zeros((2, 2, 3, 1), np.float32)


def kernel(*shape: int) -> messages.KernelBlock:
    return messages.KernelBlock(kernel=np.zeros(shape, np.float32))


def cotangents(rows: np.ndarray, columns: np.ndarray) -> messages.ImageCotangents:
    return messages.ImageCotangents(rows=rows, columns=columns)


MALFORMED = {
    "wrong shape": (block, kernel(2, 4)),
    "transposed": (block, kernel(3, 2)),
    "one number": (block, kernel(1, 1)),
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
    pool = make_pool([FakeLink("A", behaviour=failing(3, kernel(2, 4)))])
    version = pool.publish(SUPPORT)
    with pytest.raises(WorkerError, match="2x3 block"):
        list(pool.map([(block(version, 3), None)]))


def test_what_on_progress_raises_ends_the_map(make_pool: Any) -> None:
    def stop() -> None:
        raise KipperError("stop")

    link = FakeLink("A", held=lambda request: isinstance(request, Block))
    pool = make_pool([link], on_progress=stop)
    with pytest.raises(KipperError, match="stop"):
        list(pool.map([(block(pool.publish(SUPPORT), 0), None)]))


# --- what workers hold ----------------------------------------------------------------------------


def test_publishing_sends_the_images_to_all_and_blocks_wait_for_them(make_pool: Any) -> None:
    links = [FakeLink(name) for name in "ABC"]
    pool = make_pool(links)
    for step in range(5):
        images = SUPPORT + step
        version = pool.publish(images)
        assert version == step + 1
        check_kernels(pool, [block(version, i % 7) for i in range(30)])
        for link in links:
            sent = link.requests_of(PutSupport)
            assert all(put.images is images for put in sent if put.version == version)


def test_blocks_of_a_new_version_are_not_sent_to_a_worker_that_has_the_old(make_pool: Any) -> None:
    late = FakeLink("A", held=lambda r: isinstance(r, PutSupport) and r.version == 2)
    pool = make_pool([late, FakeLink("B")])
    version = pool.publish(SUPPORT)
    check_kernels(pool, [block(version, i % 7) for i in range(30)])
    version = pool.publish(SUPPORT + 1)
    assert check_kernels(pool, [block(version, i % 7) for i in range(30)]) == {"B"}
    assert {sent.version for sent in late.requests_of(Block)} <= {1}
    late.release()
    check_kernels(pool, [block(version, i % 7) for i in range(30)])


def test_a_worker_still_being_set_up_gets_the_newest_images_alone(make_pool: Any) -> None:
    link = FakeLink("A", held=lambda r: isinstance(r, Configure))
    pool = make_pool([link])
    for step in range(3):
        version = pool.publish(SUPPORT + step)
    link.release()
    check_kernels(pool, [block(version, i % 7) for i in range(10)])
    assert [put.version for put in link.requests_of(PutSupport)] == [3]
    assert len(link.requests_of(Configure)) == 1


def test_row_sets_a_worker_holds_are_not_sent_again(make_pool: Any) -> None:
    sets = [np.full((3, 2, 2, 1), i, np.float32) for i in range(3)]
    row_sets = {content_key(rows): rows for rows in sets}
    keys = list(row_sets)
    links = [FakeLink("A", row_keys=(keys[1], "stranger")), FakeLink("B", row_keys=tuple(keys))]
    pool = make_pool(links, row_sets)
    version = pool.publish(SUPPORT)
    check_kernels(pool, [block(version, i % 7) for i in range(60)])
    assert {put.key for put in links[0].requests_of(PutRows)} <= {keys[0], keys[2]}
    assert links[1].requests_of(PutRows) == []


@pytest.mark.parametrize("shape", [(1000, 32, 32, 3), (3, 1, 1, 1), (2, 600, 600, 1), (1, 2, 2, 2)])
def test_row_sets_arrive_whole_in_pieces_of_bounded_size(make_pool: Any, shape: Any) -> None:
    rows = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    link = FakeLink("A")
    pool = make_pool([link], {"key": rows})
    check_kernels(pool, [block(pool.publish(SUPPORT), 0)])
    received = np.zeros_like(rows)
    pieces = link.requests_of(PutRows)
    for put in pieces:
        assert (put.key, put.total) == ("key", len(rows))
        assert put.rows.nbytes <= PIECE_BYTES or len(put.rows) == 1
        received[put.start : put.start + len(put.rows)] += put.rows
    np.testing.assert_array_equal(received, rows)
    assert len(pieces) <= 2 * rows.nbytes // PIECE_BYTES + 2


def test_the_engine_that_workers_chose_is_known(make_pool: Any) -> None:
    pool = make_pool([FakeLink("A")])
    check_kernels(pool, [block(pool.publish(SUPPORT), 0)])
    assert pool.engines == {"A": "fake"}
