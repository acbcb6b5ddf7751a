"""Invariants of a scheduler, which tests check after every event.

They read two private attributes, `_out` and `_placement`: what they check is internal consistency.
"""

from kipper.server.scheduler import rules
from kipper.server.scheduler.events import DropWorker, SetAsideWorker
from kipper.server.scheduler.ledger import BlockRecord, Ledger
from kipper.server.scheduler.scheduler import Scheduler


def check(scheduler: Scheduler) -> None:
    """Recomputes derived state from the leases and answers, and compares.

    Raises:
        AssertionError: one sentence says which invariant does not hold.
    """
    ledger = scheduler.ledger
    _check_leases(ledger)
    _check_lists(ledger)
    _check_pieces(ledger)
    for block, entry in ledger.blocks.items():
        _check_block(scheduler, block, entry)
    _check_queue(scheduler)
    _check_work(scheduler)
    for instruction in scheduler._out:
        if isinstance(instruction, DropWorker | SetAsideWorker):
            worker = instruction.worker
            assert worker not in ledger.workers, f"{worker} was dropped and is still present"
    _check_health(scheduler)


def _check_health(scheduler: Scheduler) -> None:
    """Records agree with each other, and no broken worker is present."""
    health = scheduler.health
    for worker, records in health.records.items():
        for kind, record in records.items():
            assert len(record.in_a_row) <= min(record.failures, rules.FAILED_IN_A_ROW)
            assert record.answers <= health.answers.get(kind, 0), f"{worker} answered too often"
            assert not record.in_a_row or worker in health.said, f"{worker} failed without a word"
    for worker in scheduler.ledger.workers:
        for kind, record in health.records.get(worker, {}).items():
            broken = health.is_broken(worker, kind) and record.refuted
            assert not broken, f"{worker} fails what others can do, and is present"


def _check_leases(ledger: Ledger) -> None:
    bytes_out = 0
    for worker, record in ledger.workers.items():
        number = len(record.out)
        assert number <= rules.WINDOW, f"{worker} has {number} blocks"
        for position, (block, lease) in enumerate(record.out.items()):
            assert block in ledger.blocks, f"{worker} has block {block}, which is unknown"
            entry = ledger.blocks[block]
            assert worker in entry.out, f"block {block} does not know that {worker} has it"
            begun = lease.started is not None
            assert begun == (position == 0), f"{worker} began block {block} out of order"
            assert lease.started is None or lease.started >= lease.sent, (
                f"{worker} began block {block} before it was sent"
            )
            bytes_out += entry.spec.bytes
    for block, entry in ledger.blocks.items():
        for worker in entry.out:
            assert worker in ledger.workers, f"block {block} is out at {worker}, which is gone"
            out = ledger.workers[worker].out
            assert block in out, f"{worker} does not know that it has block {block}"
    assert ledger.bytes_out == bytes_out, f"{bytes_out} bytes are out, not {ledger.bytes_out}"
    assert ledger.frozen <= set(ledger.workers), "a worker that is gone is frozen"


def _check_lists(ledger: Ledger) -> None:
    for number, listed in ((0, ledger.idle), (1, ledger.single)):
        true = {worker for worker, record in ledger.workers.items() if len(record.out) == number}
        assert true == set(listed), f"{sorted(true)} have {number} blocks, not {sorted(listed)}"
    for block, worker in ledger.behind.items():
        assert worker in ledger.workers, f"block {block} waits on {worker}, which is gone"
        lease = ledger.workers[worker].out.get(block)
        assert lease is not None, f"block {block} waits on {worker}, which does not have it"
        assert lease.started is None, f"block {block} waits on {worker}, which has begun it"
        wanted = ledger.blocks[block].needs_answer
        assert wanted, f"block {block} has its result and may be taken from {worker}"
    accepted = sum(entry.accepted is not None for entry in ledger.blocks.values())
    assert ledger.num_accepted == accepted, (
        f"{accepted} blocks are accepted, not {ledger.num_accepted}"
    )


def _check_pieces(ledger: Ledger) -> None:
    holders: dict[str, int] = {}
    for record in ledger.workers.values():
        for piece in record.held:
            holders[piece] = holders.get(piece, 0) + 1
    assert ledger.holders == holders, f"pieces are held by {holders}, not {ledger.holders}"


def _check_block(scheduler: Scheduler, block: int, entry: BlockRecord) -> None:
    waits, rests = block in scheduler.state.waiting, block in scheduler.state.resting
    assert not (waits and rests), f"block {block} waits and rests"
    needed = entry.copies_needed
    assert (waits or rests) == (needed > 0), (
        f"block {block} needs {needed} more workers; it waits: {waits}, it rests: {rests}"
    )
    if entry.accepted is None:
        assert waits or rests or entry.out, f"block {block} is lost"
    else:
        done = not entry.out and not entry.needs_answer
        assert not done, f"block {block} is finished and still known"
    if entry.unsettled:
        assert block in scheduler.state.unsettled, f"block {block} is not listed as unsettled"
    answered = [worker for group in entry.groups for worker in group]
    assert len(answered) == len(set(answered)), f"an answer to block {block} counts twice"


def _check_work(scheduler: Scheduler) -> None:
    """No worker is idle that could compute a waiting block; a tick ends the rest of others."""
    ledger = scheduler.ledger
    for worker in ledger.idle:
        record = ledger.workers[worker]
        is_slow = record.pace.slowness > rules.SLOW_WORKER
        rests = record.draining or record.stalled_since is not None or record.rests_until > 0
        for block in () if is_slow or rests else scheduler.state.waiting:
            entry = ledger.blocks[block]
            fits = scheduler._placement._fits(entry.spec.bytes)
            able = fits and scheduler._placement.suits(worker, entry)
            assert not able, f"{worker} is idle and could compute block {block}, which waits"


def _check_queue(scheduler: Scheduler) -> None:
    for where, listed in (("waits", scheduler.state.waiting), ("rests", scheduler.state.resting)):
        for block in listed:
            assert block in scheduler.ledger.blocks, f"block {block} {where} and is not known"
    bound_to: dict[int, str] = {}
    for level in scheduler.state.waiting.levels.values():
        assert level.blocks, "a level of the queue is empty and kept"
        bound = {block for queue in level.by_worker.values() for block in queue}
        offered = {block for queue in level.by_columns.values() for block in queue}
        assert not bound & offered, f"{bound & offered} wait for a worker and for any"
        assert bound | offered == set(level.blocks), "a waiting block is found by nobody"
        for worker, queue in level.by_worker.items():
            assert worker in scheduler.ledger.workers, f"{worker} is gone and waited for"
            bound_to |= dict.fromkeys(queue, worker)
    assert bound_to == scheduler.state.waiting.bound_to, f"bound are {bound_to}"
