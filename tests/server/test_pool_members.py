"""Workers that come, go, drain, die and lie, while a pool's map is under way."""

import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_links import FakeLink, kernel_of, lie, probe_kernel
from pool_requests import SUPPORT, block, blocks, check_kernels, failing

from kipper.common import messages
from kipper.common.errors import WorkerError
from kipper.common.messages import Block, Configure, Probe
from kipper.server.pool import Pool
from kipper.server.pool_worker import KnownBlock
from kipper.server.run_numerics import Admission
from kipper.server.scheduler import rules

GONE = ConnectionError("cable pulled")
X1, X2 = SUPPORT[:2] / 10, SUPPORT[2:5] / 10
KNOWN = KnownBlock(Probe(x1=X1, x2=X2), probe_kernel(X1, X2))
NEVER_ALONE = {"verify_fraction": 1.0}


def is_block(request: messages.Request) -> bool:
    return isinstance(request, Block)


def once(condition: Callable[[], bool], do: Callable[[], None]) -> Callable[[], None]:
    """An `on_progress` that does something in another thread when a condition first holds."""
    done = [False]

    def on_progress() -> None:
        if not done[0] and condition():
            done[0] = True
            threading.Thread(target=do).start()

    return on_progress


def release_when_asked(pool: Pool, asked: FakeLink, *held: FakeLink) -> None:
    """Workers answer their blocks once another has got one."""

    def release() -> None:
        for link in held:
            link.release()

    pool.on_progress = once(lambda: bool(asked.requests_of(Block)), release)


# --- losing workers -------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 7])
def test_the_blocks_of_an_unreachable_worker_are_done_by_the_other(
    make_pool: Any, after: int
) -> None:
    seen = [0]

    def unreachable_after(request: messages.Request) -> Any:
        seen[0] += isinstance(request, Block)
        return GONE if seen[0] > after else None

    links = [FakeLink("A", behaviour=unreachable_after), FakeLink("B")]
    pool = make_pool(links)
    version = pool.publish(SUPPORT)
    assert "B" in check_kernels(pool, blocks(version, 300))
    assert pool.counts.blocks == 300


def test_a_worker_that_cannot_be_reached_is_dropped(make_pool: Any) -> None:
    dead = FakeLink("A", behaviour=lambda r: GONE if isinstance(r, Block) else None)
    other = FakeLink("B", held=is_block)
    pool = make_pool([dead, other])
    version = pool.publish(SUPPORT)
    pool.on_progress = once(lambda: pool.counts.workers == 1, other.release)
    assert check_kernels(pool, blocks(version, 40)) == {"B"}
    assert dead.closed
    assert pool.is_banned("A") is None


@pytest.mark.parametrize(
    "answer",
    [
        GONE,
        messages.Failure(kind=messages.REFUSED, message="another protocol"),
        messages.ImageCotangents(SUPPORT, SUPPORT),
    ],
)
@pytest.mark.parametrize("kind", [Configure, Probe])
def test_a_worker_that_cannot_be_set_up_is_done_without(
    make_pool: Any, kind: type, answer: Any
) -> None:
    broken = FakeLink("A", behaviour=lambda r: answer if isinstance(r, kind) else None)
    other = FakeLink("B", held=is_block)
    pool = make_pool([broken, other], known=KNOWN)
    pool.on_progress = once(lambda: broken.closed, other.release)
    version = pool.publish(SUPPORT)
    assert check_kernels(pool, blocks(version, 20)) == {"B"}
    assert broken.requests_of(Block) == []
    assert broken.closed


def test_losing_every_worker_ends_the_run_with_the_reason(make_pool: Any) -> None:
    pool = make_pool([FakeLink(name, behaviour=failing(10**6, GONE)) for name in "AB"])
    version = pool.publish(SUPPORT)
    with pytest.raises(WorkerError, match=r"no worker is left.*cable pulled"):
        check_kernels(pool, blocks(version, 50))


# --- the known block ------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [1e-6, 0.01, np.nan])
def test_a_worker_whose_numbers_are_wrong_gets_no_blocks(make_pool: Any, error: float) -> None:
    def behave(request: messages.Request) -> Any:
        if not isinstance(request, Probe):
            return None
        return messages.KernelBlock(kernel=(KNOWN.kernel * (1 + error)).astype(np.float32))

    link = FakeLink("A", behaviour=behave)
    other = FakeLink("B", held=is_block)
    pool = make_pool([link, other], known=KNOWN)
    pool.on_progress = once(lambda: bool(link.closed or link.requests_of(Block)), other.release)
    check_kernels(pool, blocks(pool.publish(SUPPORT), 30))
    assert link.closed == (error != 1e-6)
    assert bool(link.requests_of(Block)) == (error == 1e-6)


# --- coming and going -----------------------------------------------------------------------------


def test_an_elastic_pool_waits_for_its_first_worker(make_pool: Any) -> None:
    link = FakeLink("late")
    pool: Pool = make_pool([], elastic=True, policy={"max_bytes_out": 10**6})
    pool.on_progress = once(lambda: True, lambda: pool.join(link))
    assert check_kernels(pool, blocks(pool.publish(SUPPORT), 20)) == {"late"}
    pool.close()
    assert link.closed


def test_a_worker_that_comes_in_the_middle_helps(make_pool: Any) -> None:
    links = [FakeLink("A", held=is_block), FakeLink("B")]
    pool = make_pool(links[:1])
    pool.on_progress = once(
        lambda: len(links[0].requests_of(Block)) == 2, lambda: pool.join(links[1])
    )
    version = pool.publish(SUPPORT)
    requests = [block(version, i % 6) for i in range(2, 20)]
    answers = pool.map((request, None) for request in requests)
    threading.Thread(target=lambda: (links[1].wait_for(Block), links[0].release())).start()
    assert len(list(answers)) == len(requests)
    assert links[1].requests_of(Block)
    assert pool.counts.workers == 2


def test_blocks_of_a_worker_that_left_are_computed_by_others(make_pool: Any) -> None:
    links = [FakeLink("A", held=is_block), FakeLink("B", held=is_block)]

    def leave() -> None:
        pool.leave("A", "its machine was switched off")
        links[1].release()

    pool = make_pool(links)
    pool.on_progress = once(lambda: pool.blocks_out("A") == 2, leave)
    assert check_kernels(pool, blocks(pool.publish(SUPPORT), 20)) == {"B"}
    assert links[0].closed
    assert pool.blocks_out("A") == 0
    assert list(pool.engines) == ["B"]


def test_a_draining_worker_finishes_what_it_has_and_gets_no_more(make_pool: Any) -> None:
    links = [FakeLink("A", held=is_block), FakeLink("B", held=is_block)]

    def drain() -> None:
        pool.drain("A")
        for link in links:
            link.release()

    pool = make_pool(links)
    pool.on_progress = once(lambda: pool.blocks_out("A") == 2, drain)
    check_kernels(pool, blocks(pool.publish(SUPPORT), 60))
    assert len(links[0].requests_of(Block)) == 2
    assert not links[0].closed


def test_a_worker_that_comes_again_by_its_name_replaces_itself(make_pool: Any) -> None:
    links = [FakeLink("A", held=is_block), FakeLink("A")]
    pool = make_pool(links[:1])
    pool.on_progress = once(lambda: pool.blocks_out("A") == 2, lambda: pool.join(links[1]))
    assert pool.engines == {}
    # Not elastic: the old one must not be missed before the new one is there.
    check_kernels(pool, blocks(pool.publish(SUPPORT), 20))
    assert links[0].closed
    assert len(links[1].requests_of(Block)) == 20
    pool.close()
    assert links[1].closed


class Lingering(FakeLink):
    """Goes on answering when the pool has let go of it."""

    def close(self) -> None:
        self.closed_once = True


def test_late_words_of_a_worker_that_was_replaced_are_not_heard(make_pool: Any) -> None:
    old = Lingering("A", behaviour=lie, held=is_block)
    new = FakeLink("A", held=is_block)

    def replace() -> None:
        pool.join(new)
        new.wait_for(Block)
        old.release()
        while not old.idle:
            time.sleep(0.01)
        new.release()

    pool = make_pool([])
    pool.join(old)
    pool.on_progress = once(lambda: pool.blocks_out("A") == 2, replace)
    check_kernels(pool, blocks(pool.publish(SUPPORT), 20))
    assert old.closed_once
    FakeLink.close(old)


def test_events_of_unknown_workers_are_harmless(make_pool: Any) -> None:
    pool = make_pool([FakeLink("A")])
    pool.drain("stranger")
    pool.leave("stranger", "who is it")
    check_kernels(pool, blocks(pool.publish(SUPPORT), 10))
    assert pool.blocks_out("stranger") == 0


# --- broken workers -------------------------------------------------------------------------------


def not_finite(request: messages.Request) -> Any:
    if not isinstance(request, Block):
        return None
    shape = request.stop - request.start, len(request.columns)
    return messages.KernelBlock(kernel=np.full(shape, np.nan, np.float32))


def always(answer: Any) -> Any:
    return lambda request: answer if isinstance(request, Block) else None


@pytest.mark.parametrize(
    "behaviour",
    [
        always(messages.Failure(kind=messages.FAILED, message="out of memory")),
        always(messages.Failure(kind=messages.MISSING, message="no such row")),
        always(messages.Failure(kind=messages.CANCELLED, message="no thanks")),
        always(messages.KernelBlock(kernel=np.zeros((1, 1), np.float32))),
        always(GONE),
        not_finite,
    ],
)
@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_three_broken_workers_do_not_stop_two_healthy_ones(
    make_pool: Any, behaviour: Any, fraction: float
) -> None:
    broken = [FakeLink(f"b{i}", behaviour=behaviour) for i in range(3)]
    healthy = [FakeLink("h0", held=is_block), FakeLink("h1", held=is_block)]
    pool = make_pool([*broken, *healthy], policy={"verify_fraction": fraction})
    release_when_asked(pool, broken[2], *healthy)
    assert check_kernels(pool, blocks(pool.publish(SUPPORT), 300)) == {"h0", "h1"}
    assert max(len(link.requests_of(Block)) for link in broken) < 60


def test_a_worker_that_was_set_aside_is_kept_away_for_a_while(
    make_pool: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rules, "FIRST_SECONDS_ASIDE", 0.2)
    failure = messages.Failure(kind=messages.FAILED, message="out of memory")
    links = [FakeLink("broken", behaviour=always(failure)), FakeLink("h")]
    pool = make_pool(links)
    version = pool.publish(SUPPORT)
    while not links[0].closed:
        check_kernels(pool, blocks(version, 50))
    assert "6 blocks in a row, the last: out of memory" in caplog.text
    assert all("the last: out of memory" in why for why in pool.set_aside.values())
    why = pool.why_aside("broken")
    assert why is None or "was set aside: it failed 6 blocks in a row" in why
    healed = FakeLink("broken")
    while pool.why_aside("broken") is not None:
        time.sleep(0.01)
    pool.join(healed)
    while not healed.requests_of(Block):
        check_kernels(pool, blocks(version, 50))
    assert pool.why_aside("broken") is None


def test_when_no_worker_is_left_the_run_names_what_each_said(make_pool: Any) -> None:
    gone = [ConnectionError(f"{name}'s cable pulled") for name in "AB"]
    links = [FakeLink(f"w{i}", behaviour=always(error)) for i, error in enumerate(gone)]
    pool = make_pool(links)
    with pytest.raises(WorkerError, match="no worker is left") as ended:
        check_kernels(pool, blocks(pool.publish(SUPPORT), 50))
    assert "A's cable pulled" in str(ended.value)
    assert "B's cable pulled" in str(ended.value)


# --- liars ----------------------------------------------------------------------------------------


def test_a_liar_is_found_out_named_and_kept_away(make_pool: Any) -> None:
    links = [
        FakeLink("A", held=is_block),
        FakeLink("liar", behaviour=lie),
        FakeLink("C", held=is_block),
    ]
    pool = make_pool(links, policy=NEVER_ALONE)
    release_when_asked(pool, links[1], links[0], links[2])
    version = pool.publish(SUPPORT)
    assert check_kernels(pool, blocks(version, 60)) <= {"A", "C"}
    assert links[1].closed
    assert "differs from" in pool.is_banned("liar")
    again = FakeLink("liar")
    pool.join(again)
    check_kernels(pool, blocks(version, 60))
    assert again.closed
    assert again.requests == []


def test_a_ban_outlives_the_coordinator_and_the_name(
    make_pool: Any, tmp_path: pathlib.Path
) -> None:
    links = [
        FakeLink("A", held=is_block),
        FakeLink("liar", behaviour=lie),
        FakeLink("C", held=is_block),
    ]
    pool = make_pool(links, policy=NEVER_ALONE, bans=tmp_path / "bans.json")
    for name, certificate in (("A", "shared"), ("C", "shared"), ("liar", "own")):
        pool.note_certificate(name, certificate)
    release_when_asked(pool, links[1], links[0], links[2])
    check_kernels(pool, blocks(pool.publish(SUPPORT), 20))
    pool = make_pool([FakeLink("A"), FakeLink("liar")], bans=tmp_path / "bans.json")
    assert "differs from" in pool.is_banned("liar")
    assert check_kernels(pool, blocks(pool.publish(SUPPORT), 20)) == {"A"}
    pool.note_certificate("reformed", "own")
    assert "differs from" in pool.is_banned("reformed")
    pool.note_certificate("D", "shared")
    assert pool.is_banned("D") is None


def test_identities_that_differ_may_differ_in_the_last_bits(make_pool: Any) -> None:
    def nearly(request: messages.Request) -> Any:
        if not isinstance(request, Block):
            return None
        return messages.KernelBlock(kernel=(kernel_of(request) * (1 + 1e-6)).astype(np.float32))

    pool = make_pool(
        [FakeLink("A", arithmetic="CPU"), FakeLink("B", behaviour=nearly, arithmetic="GPU")],
        policy=NEVER_ALONE,
        admission=Admission(mixed=True),
    )
    requests = blocks(pool.publish(SUPPORT), 30)
    assert len(list(pool.map((request, None) for request in requests))) == 30
    assert pool.is_banned("A") is pool.is_banned("B") is None
    assert pool.scheduler.counters.verified == 30


def test_equal_identities_must_not_differ_in_a_single_bit(
    make_pool: Any,
) -> None:
    def nearly(request: messages.Request) -> Any:
        if not isinstance(request, Block):
            return None
        kernel = np.nextafter(kernel_of(request).astype(np.float32), np.float32(np.inf))
        return messages.KernelBlock(kernel=kernel)

    links = [
        FakeLink("A", held=is_block),
        FakeLink("B", behaviour=nearly),
        FakeLink("C", held=is_block),
    ]
    pool = make_pool(links, policy=NEVER_ALONE)
    release_when_asked(pool, links[1], links[0], links[2])
    check_kernels(pool, blocks(pool.publish(SUPPORT), 30))
    assert pool.is_banned("B") is not None


def test_one_worker_does_not_suffice_if_every_block_is_verified(
    make_pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "VERIFIER_PATIENCE_SECONDS", 0.1)
    pool = make_pool([FakeLink("A")], policy=NEVER_ALONE | {"patience_seconds": 0.0})
    with pytest.raises(WorkerError, match="worker A is the only one left"):
        check_kernels(pool, blocks(pool.publish(SUPPORT), 5))
