"""Leases, and the counts derived from them."""

from kipper.server.scheduler.events import BlockSpec
from kipper.server.scheduler.ledger import BlockRecord, Ledger


def ledger_of(num_blocks: int, *workers: str) -> Ledger:
    ledger = Ledger()
    for worker in workers:
        ledger.add_worker(worker)
    for block in range(num_blocks):
        pieces = ("rows", 50), (f"columns {block}", 30)
        ledger.blocks[block] = BlockRecord(BlockSpec(block, "shape", 0, pieces, 100))
    return ledger


def test_a_worker_begins_the_next_block_when_the_one_before_it_ends() -> None:
    ledger = ledger_of(3, "a")
    for block in range(3):
        ledger.lend("a", block, 10.0 + block)
    leases = ledger.workers["a"].out
    assert [lease.started for lease in leases.values()] == [10.0, None, None]
    assert ledger.behind == {1: "a", 2: "a"}
    assert ledger.release("a", 1, 20.0).started is None  # out of turn: nothing begins
    assert [lease.started for lease in leases.values()] == [10.0, None]
    ledger.release("a", 0, 30.0)
    assert leases[2].started == 30.0
    assert leases[2].sent == 12.0
    assert ledger.behind == {}


def test_workers_are_listed_by_how_much_they_have() -> None:
    ledger = ledger_of(2, "a", "b")
    ledger.lend("a", 0, 0.0)
    assert (list(ledger.idle), list(ledger.single)) == (["b"], ["a"])
    ledger.lend("a", 1, 0.0)
    assert (list(ledger.idle), list(ledger.single)) == (["b"], [])
    ledger.release("a", 0, 1.0)
    ledger.release("a", 1, 2.0)
    assert (list(ledger.idle), list(ledger.single)) == (["b", "a"], [])


def test_a_worker_that_goes_leaves_its_leases_as_they_were() -> None:
    ledger = ledger_of(2, "a", "b")
    for worker in "ab":
        ledger.lend(worker, 0, 5.0)
        ledger.lend(worker, 1, 6.0)
    assert ledger.bytes_out == 400
    record = ledger.remove_worker("a")
    assert [lease.started for lease in record.out.values()] == [5.0, None]
    assert ledger.blocks[0].out == {"b"}
    assert ledger.bytes_out == 200
    assert ledger.holders == {"rows": 1, "columns 0": 1, "columns 1": 1}
    assert "a" not in ledger.idle
    assert ledger.release("a", 0, 9.0) is None
    assert ledger.release("b", 77, 9.0) is None


def test_only_the_newest_pieces_are_remembered() -> None:
    ledger = ledger_of(200, "a")
    for block in range(200):
        ledger.lend("a", block, 0.0)
        ledger.release("a", block, 1.0)
    held = ledger.workers["a"].held
    assert len(held) == len(ledger.holders) == 64
    assert list(held)[-2:] == ["rows", "columns 199"]
    ledger.forget_held("a")
    assert held == ledger.holders == {}


def test_accepted_blocks_are_counted_until_they_are_forgotten() -> None:
    ledger = ledger_of(3, "a")
    ledger.accept(0, "a")
    ledger.withdraw(1)
    ledger.withdraw(0)
    assert ledger.num_accepted == 2
    for block in range(3):
        ledger.forget_block(block)
    assert ledger.num_accepted == 0


def record(**fields) -> BlockRecord:
    return BlockRecord(BlockSpec(1, "shape", 0, (), 1), **fields)


def test_how_many_copies_a_block_needs() -> None:
    assert record().copies_needed == 1
    assert record(out={"a"}).copies_needed == 0
    assert record(wanted=2, out={"a"}).copies_needed == 1
    assert record(out={"a"}, extra=1).copies_needed == 1
    assert record(wanted=2, groups=[["a"]], out={"b"}).copies_needed == 0
    assert record(wanted=2, groups=[["a"], ["b"]]).copies_needed == 1
    assert record(wanted=2, groups=[["a"], ["b"]], accepted="a").copies_needed == 1
    assert record(groups=[["a"]], accepted="a").copies_needed == 0
    assert record(withdrawn=True).copies_needed == 0
    assert record(withdrawn=True, wanted=2, groups=[["a"], ["b"]]).copies_needed == 0


def test_a_dispute_is_over_when_two_agree_or_nobody_asks() -> None:
    assert record(groups=[["a"], ["b"]]).disputed
    assert not record(groups=[["a", "c"], ["b"]]).disputed
    assert not record(groups=[["a"], ["b"]], withdrawn=True).disputed
