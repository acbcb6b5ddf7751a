"""The dispatcher under random events: its invariants hold whatever happens in which order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kipper.server.dispatcher import (
    Abort,
    AcceptResult,
    BlockFailed,
    BlockFinished,
    BlocksQueued,
    Dispatcher,
    Event,
    SendBlock,
    Tick,
    WorkerLost,
    WorkerReady,
    WorkersPaused,
)

# Longer than any deadline can become while events take `_MOMENT` each.
_SILENCE = 1e5
_MOMENT = 0.01

pick = st.randoms(use_true_random=False)


class Interleaving(RuleBasedStateMachine):
    """A model of what is out, ready and finished; instructions are checked against it."""

    @initialize(num_workers=st.integers(1, 4), window=st.integers(1, 3))
    def start(self, num_workers: int, window: int) -> None:
        names = [f"w{i}" for i in range(num_workers)]
        self.dispatcher = Dispatcher(names, window)
        self.window = window
        self.alive, self.ready, self.stalled = set(names), set(), set()
        self.out: dict[str, set[int]] = {name: set() for name in names}  # within the deadline
        self.answerable: list[tuple[str, int]] = []  # sent and not answered, late ones too
        self.answered: list[tuple[str, int]] = []
        self.queued: set[int] = set()
        self.accepted: set[int] = set()
        self.aborted = False
        self.now = 0.0

    def running(self) -> bool:
        return not self.aborted

    def handle(self, event: Event) -> None:
        """Hands the event over and checks every instruction that comes back."""
        self.now += _MOMENT
        for instruction in self.dispatcher.handle(event, self.now):
            match instruction:
                case SendBlock(worker, block):
                    assert not self.aborted
                    assert worker in self.alive
                    assert worker in self.ready
                    assert worker not in self.stalled
                    assert block in self.queued - self.accepted
                    assert len(self.out[worker]) < self.window
                    self.out[worker].add(block)
                    self.answerable.append((worker, block))
                case AcceptResult(block):
                    assert isinstance(event, BlockFinished)
                    assert block == event.block
                    assert block in self.queued - self.accepted
                    self.accepted.add(block)
                case Abort(reason):
                    assert reason
                    self.aborted = True
        assert self.aborted or self.dispatcher.num_unfinished == len(self.queued - self.accepted)

    def answer(self, worker: str, block: int) -> None:
        self.out[worker].discard(block)
        self.stalled.discard(worker)

    @precondition(running)
    @rule(count=st.integers(1, 5), random=pick)
    def queue_blocks(self, count: int, random) -> None:
        first = len(self.queued)
        blocks = range(first, first + count)
        self.queued.update(blocks)
        preferences = [None, "w0", "w1", "w3"]
        self.handle(BlocksQueued(tuple((block, random.choice(preferences)) for block in blocks)))

    @precondition(running)
    @rule(random=pick)
    def become_ready(self, random) -> None:
        worker = random.choice(sorted(self.out))
        if worker in self.alive:
            self.ready.add(worker)
        self.handle(WorkerReady(worker))

    @precondition(running)
    @rule()
    def pause(self) -> None:
        self.ready.clear()
        self.handle(WorkersPaused())

    @precondition(lambda self: not self.aborted and self.answerable)
    @rule(random=pick)
    def finish(self, random) -> None:
        worker, block = self.answerable.pop(random.randrange(len(self.answerable)))
        self.answered.append((worker, block))
        self.answer(worker, block)
        expected = block not in self.accepted
        self.handle(BlockFinished(worker, block))
        assert not expected or block in self.accepted

    @precondition(lambda self: not self.aborted and self.answerable)
    @rule(random=pick)
    def fail(self, random) -> None:
        worker, block = self.answerable.pop(random.randrange(len(self.answerable)))
        self.answer(worker, block)
        self.handle(BlockFailed(worker, block, "boom"))

    @precondition(lambda self: not self.aborted and self.answered)
    @rule(random=pick)
    def repeat_an_answer(self, random) -> None:
        worker, block = random.choice(self.answered)
        self.answer(worker, block)
        self.handle(BlockFinished(worker, block))

    @precondition(lambda self: not self.aborted and len(self.alive) > 1)
    @rule(random=pick)
    def lose(self, random) -> None:
        worker = random.choice(sorted(self.alive))
        self.alive.discard(worker)
        self.ready.discard(worker)
        self.answerable = [sent for sent in self.answerable if sent[0] != worker]
        self.handle(WorkerLost(worker, "gone"))

    @precondition(running)
    @rule()
    def tick(self) -> None:
        self.handle(Tick())

    @precondition(running)
    @rule()
    def keep_silent(self) -> None:
        """So long that everything that is out is late."""
        self.now += _SILENCE
        for worker, blocks in self.out.items():
            if blocks and worker in self.alive:
                self.stalled.add(worker)
            blocks.clear()
        self.handle(Tick())

    @precondition(lambda self: self.aborted)
    @rule()
    def rest(self) -> None:
        """After an abort nobody asks the dispatcher any more."""

    def teardown(self) -> None:
        """With willing workers, what is left is either accepted or the run has been aborted."""
        if not hasattr(self, "dispatcher"):
            return
        for worker in sorted(self.alive):
            if not self.aborted:
                self.ready.add(worker)
                self.handle(WorkerReady(worker))
        while self.answerable and not self.aborted:
            worker, block = self.answerable.pop(0)
            self.answer(worker, block)
            self.handle(BlockFinished(worker, block))
        assert self.aborted or self.accepted == self.queued


def test_no_interleaving_breaks_the_rules() -> None:
    run_state_machine_as_test(
        Interleaving, settings=settings(max_examples=300, stateful_step_count=40, deadline=None)
    )
