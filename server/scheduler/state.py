"""The scheduler's whole state, as plain data that a log can hold."""

import dataclasses

from kipper.server.scheduler.block_times import BlockTimes
from kipper.server.scheduler.health import Health
from kipper.server.scheduler.ledger import Ledger
from kipper.server.scheduler.rules import SchedulerCounters
from kipper.server.scheduler.waiting import Waiting


@dataclasses.dataclass
class State:
    """Everything besides the policy that the scheduler's decisions depend on.

    Attributes:
        ledger: workers, blocks and leases.
        waiting: blocks that need a worker, or another one.
        times: how long blocks take.
        health: how workers have done lately.
        resting: blocks that wait for a pause to end.
        unsettled: answered blocks that need another answer.
        reconsider_all: whether workers that found no block before may find one now.
        next_late_check: time of the next check for late blocks.
        next_check: time of the next check of deadlines and patience.
        clock: time of the last event.
        deserted_since: since when no worker is present.
        last_departure: which worker left last, and why.
    """

    counters: SchedulerCounters = dataclasses.field(default_factory=SchedulerCounters)
    ledger: Ledger = dataclasses.field(default_factory=Ledger)
    waiting: Waiting = dataclasses.field(default_factory=Waiting)
    times: BlockTimes = dataclasses.field(default_factory=BlockTimes)
    health: Health = dataclasses.field(default_factory=Health)
    resting: dict[int, None] = dataclasses.field(default_factory=dict)
    unsettled: dict[int, None] = dataclasses.field(default_factory=dict)
    reconsider_all: bool = True
    next_late_check: float = 0.0
    next_check: float = 0.0
    clock: float | None = None
    deserted_since: float | None = None
    last_departure: str = ""
