"""The rules by which blocks are given to workers, and their numbers.

Rule 1   This package knows no transport, threads, clock or randomness. Events come in with the
         time they happened, instructions go out; the same events give the same instructions.
Rule 2   A queued block ends in exactly one of three ways: one answer to it is accepted, it is
         withdrawn (of itself, if it is optional), or the run is aborted.
Rule 3   A worker gets blocks while it is there, not draining, not stalled and not resting, and
         never more than WINDOW at a time. It computes them in the order in which it got them.
Rule 4   Placement: the most urgent block first; of these one that prefers the worker (it kept the
         block's residuals), then one for which the fewest bytes must be sent, then one of the
         columns that most blocks still need and fewest workers hold. A worker known to be slow
         gets none that the others would finish sooner, and none waits behind a late one.
Rule 5   Leases. A block's time counts from when its worker could begin it. Beyond
         DEADLINE_FACTOR times what such blocks take, on such a worker, the worker is stalled: its
         blocks go to others, and it gets nothing until it answers. Heartbeats do not help it.
Rule 6   Failures. What got lost on the way rests the worker and goes to another at once, or to the
         only one after a pause; a worker of which LOST_IN_A_ROW were lost is dropped. A block that
         failed on FAILED_WORKERS distinct workers (or so often on the only one, or twice so often
         in all) by NaN, by an exception, by their deaths or by their silence is quarantined, and
         the run aborted.
Rule 7   Duplicates. A block is late once it has run SLOW_FACTOR times as long as nine in ten such
         blocks take. If nothing as urgent waits, a copy of it and what is behind it on its worker
         wait for others; and an idle worker for which nothing waits takes what is behind another
         block. Copies of running blocks are a share COPIES_SHARE of all, or their worker seems
         frozen. The first answer wins; of copies that had begun, answers are compared.
Rule 8   Verification. Of blocks chosen at random, a share of `verify_fraction`, two workers' equal
         answers are needed. Where answers differ a third decides; who is outvoted is dropped as a
         liar, and if his answer had been used the run is aborted. Where only one is left, a chosen
         block waits VERIFIER_PATIENCE_SECONDS for those that were lost, not for those that took
         their leave, and is then taken as it is, unless all blocks are to be verified.
Rule 9   Backpressure: blocks out are worth at most `max_bytes_out`, or are one.
Rule 10  Without workers the run waits `patience_seconds` for one, and is then aborted.
Rule 11  Optional blocks bring a worker what it may need next. They go last, to idle workers, and
         once: none is verified, copied or tried again, and nobody is blamed for one.
"""

import dataclasses

# A worker's first block of a shape includes compilation: a minute for deep pooled kernels.
FIRST_DEADLINE_SECONDS = 900.0
# Afterwards: generous, as duplicates have long taken care of the block.
DEADLINE_FACTOR = 10.0
MIN_DEADLINE_SECONDS = 30.0
# A stalled worker that stays silent for so many deadlines more is dropped.
DEADLINES_UNTIL_DROPPED = 3.0

# Blocks at a worker at once: one computes, and one is there when it ends.
WINDOW = 2

FAILED_WORKERS = 3
LOST_IN_A_ROW = 6
MOST_LOSSES = 30  # of one block, whoever had it: then something is wrong with the block
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0

SLOW_FACTOR = 1.15  # against what nine in ten blocks take
# Below this a block is late by the network's or the machine's noise.
SLOW_SECONDS = 0.05
# Beyond this its worker is frozen or gone, and copies are not counted against their budget.
FROZEN_FACTOR = 4.0
# Copies of running blocks: at most this share of all blocks, and a few to begin with.
COPIES_SHARE, FIRST_COPIES = 0.02, 4
# Between two looks at what runs, whether it is late: that, or this share of what blocks take.
LOOK_SECONDS, LOOK_SHARE = 0.02, 0.05
# Between two checks of deadlines and of patience.
CHECK_SECONDS = 0.5
# A worker this much slower than the median is one for which others may be the better choice.
SLOW_WORKER = 2.0

# How long a block that needs a second worker's answer waits for one to come.
VERIFIER_PATIENCE_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Policy:
    """What differs between runs.

    Attributes:
        max_bytes_out: of questions and answers under way.
        verify_fraction: share of blocks computed by two workers, 0 to 1.
        seed: of that choice.
        patience_seconds: how long to wait where there is no worker.
    """

    max_bytes_out: int = 512 * 2**20
    verify_fraction: float = 0.0
    seed: int = 0
    patience_seconds: float = 0.0


@dataclasses.dataclass
class Counters:
    """What happened, for reports.

    Attributes:
        sent, accepted: blocks.
        copies: sent of running blocks.
        taken: sent of blocks that waited behind another.
        verified, unverified: blocks of which two answers agreed; that should have been verified
            and could not, for want of a second worker.
        lost, failed: answers that did not come, and that were none.
        left: workers.
        worker_seconds, busy_seconds: of workers that were there; that had a block.
        wasted_seconds: of busy ones, spent on answers that were not needed.
    """

    sent: int = 0
    accepted: int = 0
    copies: int = 0
    taken: int = 0
    verified: int = 0
    unverified: int = 0
    lost: int = 0
    failed: int = 0
    left: int = 0
    worker_seconds: float = 0.0
    busy_seconds: float = 0.0
    wasted_seconds: float = 0.0
