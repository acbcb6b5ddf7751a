"""What a follower remembers; its spans are tested with the report of a log."""

from kipper.server.scheduler import events
from kipper.server.scheduler.events import AcceptAnswer, BlockSpec, SendBlock
from kipper.server.watch.following import Follower, Work


class Noted:
    """Notes what it is told."""

    def __init__(self):
        self.spans, self.gone = [], []

    def joined(self, worker, now):
        pass

    def left(self, worker, now, reason, announced):
        self.gone.append((worker, now, reason, announced))

    def worked(self, worker, kind, start, stop):
        self.spans.append((worker, kind, start, stop))


def spec(block, shape="K 10x500", priority=0, optional=False):
    return BlockSpec(block, shape, priority, (("rows", 10),), 100, optional=optional)


def following(*workers):
    noted = Noted()
    follower = Follower(noted)
    for worker in workers:
        follower.take(0.0, events.WorkerJoined(worker), [])
    return follower, noted


def test_kinds_follow_from_shape_priority_and_whether_a_block_is_optional():
    follower, noted = following("a")
    specs = (spec(1), spec(2, "vjp 3x4"), spec(3, priority=1), spec(4, "rows 9", 2, optional=True))
    follower.take(1.0, events.BlocksQueued(specs), [SendBlock("a", n) for n in (1, 2, 3, 4)])
    for block in (1, 2, 3, 4):
        follower.take(2.0 * block, events.BlockFinished("a", block), [AcceptAnswer("a", block)])
    assert [kind for _, kind, _, _ in noted.spans] == [
        Work.KERNEL,
        Work.GRADIENT,
        Work.EVALUATION,
        Work.ROWS,
    ]
    assert len(follower.blocks) == 0


def test_a_second_answer_is_in_vain_and_the_block_then_forgotten():
    follower, noted = following("a", "b")
    sent = [SendBlock("a", 1), SendBlock("b", 1)]
    follower.take(1.0, events.BlocksQueued((spec(1),)), sent)
    follower.take(2.0, events.BlockFinished("a", 1), [AcceptAnswer("a", 1)])
    assert (len(follower.blocks), follower.kind_of(1)) == (1, Work.WASTED)
    follower.take(3.0, events.BlockFinished("b", 1, ("a",)), [])
    assert noted.spans == [("a", Work.KERNEL, 1.0, 2.0), ("b", Work.WASTED, 1.0, 3.0)]
    assert len(follower.blocks) == 0


def test_withdrawn_blocks_are_forgotten_once_no_worker_has_them():
    follower, noted = following("a")
    follower.take(1.0, events.BlocksQueued((spec(1), spec(2))), [SendBlock("a", 1)])
    follower.take(2.0, events.BlocksWithdrawn((1, 2)), [])
    assert len(follower.blocks) == 1
    follower.take(3.0, events.BlockFailed("a", 1, events.CANCELLED, "taken back"), [])
    assert (len(follower.blocks), noted.spans) == (0, [])


def test_who_leaves_announced_had_said_so_and_had_nothing_to_do():
    follower, noted = following("a", "b", "c")
    follower.take(1.0, events.WorkerDraining("a"), [])
    follower.take(1.0, events.WorkerDraining("b"), [])
    follower.take(1.0, events.BlocksQueued((spec(1),)), [SendBlock("b", 1)])
    for worker in "abc":
        follower.take(2.0, events.WorkerLeft(worker, "it went"), [])
    assert [(worker, peace) for worker, _, _, peace in noted.gone] == [
        ("a", True),
        ("b", False),
        ("c", False),
    ]
    follower.take(3.0, events.WorkerLeft("c", "once more"), [])
    assert len(noted.gone) == 3
