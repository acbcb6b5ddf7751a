"""The rules at the head of `server/dispatcher.py`, one by one."""

import pytest

from kipper.server.dispatcher import (
    DEADLINE_FACTOR,
    FIRST_DEADLINE_SECONDS,
    MAX_ATTEMPTS,
    MIN_DEADLINE_SECONDS,
    Abort,
    AcceptResult,
    BlockFailed,
    BlockFinished,
    BlocksQueued,
    Dispatcher,
    Instruction,
    SendBlock,
    Tick,
    WorkerLost,
    WorkerReady,
    WorkersPaused,
)


def queued(blocks: str, preferred: str | None = None) -> BlocksQueued:
    """One block for each letter."""
    return BlocksQueued(tuple((block, preferred) for block in blocks))


def ready_dispatcher(workers: str, blocks: str = "", window: int = 2) -> Dispatcher:
    """Workers, one for each letter, all ready; the blocks are queued at time 0."""
    dispatcher = Dispatcher(list(workers), window)
    for worker in workers:
        assert dispatcher.handle(WorkerReady(worker), 0.0) == []
    if blocks:
        dispatcher.handle(queued(blocks), 0.0)
    return dispatcher


def aborts(instructions: list[Instruction]) -> list[str]:
    return [i.reason for i in instructions if isinstance(i, Abort)]


# --- rule 2: finished once ------------------------------------------------------------------------


def test_a_finished_block_is_accepted_once() -> None:
    dispatcher = ready_dispatcher("A", "a")
    assert dispatcher.num_unfinished == 1
    assert dispatcher.handle(BlockFinished("A", "a"), 1.0) == [AcceptResult("a")]
    assert dispatcher.num_unfinished == 0
    assert dispatcher.handle(BlockFinished("A", "a"), 2.0) == []


def test_a_late_duplicate_is_ignored() -> None:
    dispatcher = ready_dispatcher("AB", "ab", window=1)
    dispatcher.handle(BlockFinished("B", "b"), 1.0)
    late = FIRST_DEADLINE_SECONDS + 1
    assert dispatcher.handle(Tick(), late) == [SendBlock("B", "a")]
    assert dispatcher.handle(BlockFinished("B", "a"), late + 1) == [AcceptResult("a")]
    assert dispatcher.handle(BlockFinished("A", "a"), late + 2) == []
    assert dispatcher.num_unfinished == 0


def test_a_late_answer_takes_the_block_out_of_the_queue() -> None:
    dispatcher = ready_dispatcher("AB", "abc", window=1)
    late = FIRST_DEADLINE_SECONDS + 1
    dispatcher.handle(BlockFinished("B", "b"), late - 2)  # B now has c
    dispatcher.handle(Tick(), late)  # a is back in the queue and B is full
    assert dispatcher.handle(BlockFinished("A", "a"), late + 1) == [AcceptResult("a")]
    assert dispatcher.handle(BlockFinished("B", "c"), late + 2) == [AcceptResult("c")]
    assert dispatcher.num_unfinished == 0


def test_a_failure_of_a_finished_block_is_ignored() -> None:
    dispatcher = ready_dispatcher("AB", "a")
    dispatcher.handle(BlockFinished("A", "a"), 1.0)
    for _ in range(MAX_ATTEMPTS):
        assert dispatcher.handle(BlockFailed("B", "a", "boom"), 2.0) == []


# --- rule 3: readiness and window -----------------------------------------------------------------


def test_nothing_is_sent_before_a_worker_is_ready() -> None:
    dispatcher = Dispatcher(["A", "B"])
    assert dispatcher.handle(queued("ab"), 0.0) == []
    assert dispatcher.handle(Tick(), 1e6) == []
    sent = dispatcher.handle(WorkerReady("B"), 1e6)
    assert sent == [SendBlock("B", "a"), SendBlock("B", "b")]


def test_paused_workers_get_nothing_until_they_are_ready_again() -> None:
    dispatcher = ready_dispatcher("AB")
    assert dispatcher.handle(WorkersPaused(), 0.0) == []
    assert dispatcher.handle(queued("abc"), 0.0) == []
    assert dispatcher.handle(WorkerReady("A"), 1.0) == [SendBlock("A", "a"), SendBlock("A", "b")]


def test_an_answer_does_not_make_a_paused_worker_ready() -> None:
    dispatcher = ready_dispatcher("A", "abc")
    dispatcher.handle(WorkersPaused(), 0.0)
    assert dispatcher.handle(BlockFinished("A", "a"), 1.0) == [AcceptResult("a")]


@pytest.mark.parametrize("window", [1, 2, 3])
def test_the_window_is_filled_and_never_exceeded(window: int) -> None:
    dispatcher = ready_dispatcher("A", window=window)
    sent = dispatcher.handle(queued("abcdef"), 0.0)
    assert sent == [SendBlock("A", block) for block in "abcdef"[:window]]
    next_block = "abcdef"[window]
    answer = dispatcher.handle(BlockFinished("A", "a"), 1.0)
    assert answer == [AcceptResult("a"), SendBlock("A", next_block)]


def test_few_blocks_spread_over_the_workers() -> None:
    dispatcher = ready_dispatcher("AB")
    assert dispatcher.handle(queued("ab"), 0.0) == [SendBlock("A", "a"), SendBlock("B", "b")]


def test_capacity_counts_the_workers_not_lost() -> None:
    dispatcher = ready_dispatcher("ABC", window=2)
    assert (dispatcher.capacity, dispatcher.workers) == (6, ["A", "B", "C"])
    dispatcher.handle(WorkerLost("B", "gone"), 0.0)
    assert (dispatcher.capacity, dispatcher.workers) == (4, ["A", "C"])


# --- rule 4: failure, loss, deadline --------------------------------------------------------------


def test_a_lost_workers_blocks_are_sent_first_and_in_order() -> None:
    dispatcher = ready_dispatcher("AB", "abcdef")  # A has a and c, B has b and d
    assert dispatcher.handle(WorkerLost("A", "gone"), 1.0) == []
    first = dispatcher.handle(BlockFinished("B", "b"), 2.0)
    second = dispatcher.handle(BlockFinished("B", "d"), 3.0)
    assert first == [AcceptResult("b"), SendBlock("B", "a")]
    assert second == [AcceptResult("d"), SendBlock("B", "c")]


def test_a_lost_worker_gets_nothing_more() -> None:
    dispatcher = ready_dispatcher("AB", "a")
    dispatcher.handle(WorkerLost("A", "gone"), 1.0)
    assert dispatcher.handle(WorkerReady("A"), 2.0) == []
    assert dispatcher.handle(WorkerLost("A", "gone twice"), 2.0) == []
    sent = dispatcher.handle(queued("bcd"), 3.0)
    assert {i.worker for i in sent if isinstance(i, SendBlock)} == {"B"}


def test_losing_the_last_worker_aborts_with_the_reason() -> None:
    dispatcher = ready_dispatcher("AB", "ab")
    assert aborts(dispatcher.handle(WorkerLost("A", "cable"), 1.0)) == []
    (reason,) = aborts(dispatcher.handle(WorkerLost("B", "power"), 2.0))
    assert "B" in reason
    assert "power" in reason


def test_a_failed_block_is_sent_before_the_others() -> None:
    dispatcher = ready_dispatcher("A", "abc", window=1)
    assert dispatcher.handle(BlockFailed("A", "a", "boom"), 1.0) == [SendBlock("A", "a")]


def test_a_block_that_fails_thrice_aborts_with_the_last_message() -> None:
    dispatcher = ready_dispatcher("AB", "a")
    holder = "A"
    for attempt in range(MAX_ATTEMPTS - 1):
        (sent,) = dispatcher.handle(BlockFailed(holder, "a", f"boom {attempt}"), 1.0)
        assert isinstance(sent, SendBlock)
        holder = sent.worker
    (reason,) = aborts(dispatcher.handle(BlockFailed(holder, "a", "out of memory"), 2.0))
    assert "out of memory" in reason
    assert holder in reason


def test_loss_failure_and_deadline_count_together() -> None:
    dispatcher = ready_dispatcher("ABC", "a", window=1)
    assert dispatcher.handle(WorkerLost("A", "gone"), 0.0) == [SendBlock("B", "a")]
    assert dispatcher.handle(BlockFailed("B", "a", "boom"), 0.0) == [SendBlock("B", "a")]
    assert aborts(dispatcher.handle(Tick(), FIRST_DEADLINE_SECONDS + 1))


def test_failures_of_different_blocks_do_not_add_up() -> None:
    dispatcher = ready_dispatcher("A", "abcd", window=4)
    for block in "abcd":
        for _ in range(MAX_ATTEMPTS - 1):
            assert not aborts(dispatcher.handle(BlockFailed("A", block, "boom"), 1.0))


def test_a_block_past_its_first_deadline_goes_to_another_worker() -> None:
    dispatcher = ready_dispatcher("AB", "ab", window=1)
    dispatcher.handle(BlockFinished("B", "b"), 0.0)
    dispatcher.handle(queued("c"), FIRST_DEADLINE_SECONDS)
    # The first duration was 0 s, so that the shortest deadline holds from then on.
    assert dispatcher.handle(Tick(), MIN_DEADLINE_SECONDS) == []
    assert dispatcher.handle(BlockFinished("B", "c"), FIRST_DEADLINE_SECONDS + 5) == [
        AcceptResult("c")
    ]
    assert dispatcher.handle(Tick(), FIRST_DEADLINE_SECONDS + 5) == [SendBlock("B", "a")]


def test_the_first_deadline_allows_for_compilation() -> None:
    dispatcher = ready_dispatcher("AB", "a")
    assert dispatcher.handle(Tick(), FIRST_DEADLINE_SECONDS) == []
    assert dispatcher.handle(Tick(), FIRST_DEADLINE_SECONDS + 1) == [SendBlock("B", "a")]


@pytest.mark.parametrize(
    ("seconds", "limit"),
    [(0.5, MIN_DEADLINE_SECONDS), (7.0, 7 * DEADLINE_FACTOR), (100.0, 100 * DEADLINE_FACTOR)],
)
def test_later_deadlines_follow_the_longest_block(seconds: float, limit: float) -> None:
    dispatcher = ready_dispatcher("AB", "a", window=1)
    dispatcher.handle(BlockFinished("A", "a"), seconds)
    start = 1000.0
    assert dispatcher.handle(queued("b"), start) == [SendBlock("A", "b")]
    dispatcher.handle(BlockFinished("A", "b"), start + seconds / 10)
    assert dispatcher.handle(queued("c"), start) == [SendBlock("A", "c")]
    assert dispatcher.handle(Tick(), start + limit) == []
    assert dispatcher.handle(Tick(), start + limit + 1) == [SendBlock("B", "c")]


def test_a_stalled_worker_gets_nothing_until_it_answers() -> None:
    dispatcher = ready_dispatcher("AB", "ab", window=1)
    dispatcher.handle(BlockFinished("B", "b"), 1.0)
    late = FIRST_DEADLINE_SECONDS
    dispatcher.handle(Tick(), late)  # a goes to B
    assert dispatcher.handle(queued("cd"), late) == []
    assert dispatcher.handle(BlockFinished("B", "a"), late + 1) == [
        AcceptResult("a"),
        SendBlock("B", "c"),
    ]
    assert dispatcher.handle(BlockFinished("A", "a"), late + 2) == [SendBlock("A", "d")]


def test_a_stalled_worker_that_answers_with_a_failure_works_again() -> None:
    dispatcher = ready_dispatcher("AB", "ab", window=1)
    dispatcher.handle(BlockFinished("B", "b"), 1.0)
    late = FIRST_DEADLINE_SECONDS
    dispatcher.handle(Tick(), late)
    dispatcher.handle(BlockFinished("B", "a"), late + 1)
    dispatcher.handle(queued("cd"), late + 1)
    assert dispatcher.handle(BlockFailed("A", "a", "too late"), late + 2) == [SendBlock("A", "d")]


def test_a_run_whose_workers_have_all_stalled_aborts() -> None:
    dispatcher = ready_dispatcher("AB", "ab", window=1)
    (reason,) = aborts(dispatcher.handle(Tick(), FIRST_DEADLINE_SECONDS + 1))
    assert "stopped answering" in reason


def test_a_stalled_worker_left_alone_by_the_loss_of_the_other_aborts() -> None:
    dispatcher = ready_dispatcher("AB", "ab", window=1)
    dispatcher.handle(BlockFinished("B", "b"), 1.0)
    late = FIRST_DEADLINE_SECONDS
    dispatcher.handle(Tick(), late)
    dispatcher.handle(WorkerLost("B", "gone"), late + 1)
    assert aborts(dispatcher.handle(Tick(), late + 2))


def test_stalled_workers_do_not_abort_a_run_without_blocks() -> None:
    dispatcher = ready_dispatcher("AB", "a", window=1)
    late = FIRST_DEADLINE_SECONDS + 1
    dispatcher.handle(Tick(), late)  # a goes to B
    dispatcher.handle(BlockFinished("A", "a"), late)
    dispatcher.handle(Tick(), late * 3)  # B stalls over a block that is finished
    assert dispatcher.handle(Tick(), late * 4) == []


# --- rule 5: preference and stealing --------------------------------------------------------------


def test_blocks_go_to_the_worker_they_prefer() -> None:
    dispatcher = ready_dispatcher("AB")
    blocks = BlocksQueued((("a", "B"), ("b", "A"), ("c", "B"), ("d", "A")))
    sent = dispatcher.handle(blocks, 0.0)
    assert set(map(str, sent)) == {
        str(SendBlock("B", "a")),
        str(SendBlock("A", "b")),
        str(SendBlock("B", "c")),
        str(SendBlock("A", "d")),
    }


def test_an_idle_worker_steals_what_the_preferred_one_would_come_to_last() -> None:
    dispatcher = ready_dispatcher("AB")
    sent = dispatcher.handle(queued("abcde", "A"), 0.0)
    assert sent == [SendBlock("A", "a"), SendBlock("A", "b"), SendBlock("B", "e")]


def test_a_worker_that_is_busy_does_not_steal() -> None:
    dispatcher = ready_dispatcher("AB")
    dispatcher.handle(BlocksQueued((("x", "B"),)), 0.0)
    sent = dispatcher.handle(queued("abc", "A"), 0.0)
    assert sent == [SendBlock("A", "a"), SendBlock("A", "b")]
    assert dispatcher.handle(BlockFinished("B", "x"), 1.0) == [
        AcceptResult("x"),
        SendBlock("B", "c"),
    ]


def test_a_block_that_prefers_a_lost_worker_goes_to_any() -> None:
    dispatcher = ready_dispatcher("AB")
    dispatcher.handle(WorkerLost("A", "gone"), 0.0)
    sent = dispatcher.handle(queued("ab", "A"), 0.0)
    assert sent == [SendBlock("B", "a"), SendBlock("B", "b")]


def test_a_block_that_came_back_prefers_nobody() -> None:
    dispatcher = ready_dispatcher("AB", window=1)
    dispatcher.handle(queued("ab", "A"), 0.0)  # B steals b
    dispatcher.handle(queued("c", "A"), 0.0)
    assert dispatcher.handle(BlockFailed("B", "b", "boom"), 1.0) == [SendBlock("B", "b")]
