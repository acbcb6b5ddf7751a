"""The scheduler's rules and their constants.

Rule 1   This package uses no transport, thread, clock or randomness. Each event comes with its time
         and is answered by instructions; the same events always give the same instructions.
Rule 2   A queued block ends in exactly one of three ways: one of its answers is accepted, it is
         withdrawn (the scheduler itself may withdraw an optional block), or the run is aborted.
Rule 3   A worker gets blocks while it is present and not draining, stalled or resting. It has at
         most WINDOW blocks at a time and begins them in the order in which they were sent.
Rule 4   Placement. The most urgent block goes first. Among equally urgent blocks, the scheduler
         prefers one bound to the worker (which kept the block's residuals), then the one for which
         the fewest bytes must be sent, then one from the columns with the most waiting blocks per
         worker that holds them. A slow worker gets no block that the others would finish sooner,
         and no block waits behind a late one.
Rule 5   Deadlines. A block's time counts from the moment its worker could begin it. After
         DEADLINE_FACTOR times the expected duration on that worker, the worker is stalled: its
         blocks go to others, and it gets no more until it answers. Long before, after FROZEN_FACTOR
         times the expected duration, it is frozen until it answers: nothing waits for it any more.
Rule 6   Failures. After a lost message the worker rests and the block goes to another worker at
         once, or to the only worker after a pause. A worker that loses LOST_IN_A_ROW messages is
         dropped. A block fails when the answer is NaN, the worker raises, lacks rows that were sent
         again, skips a block that nobody cancelled, dies or stays silent.
         A worker that fails FAILED_IN_A_ROW blocks of one kind in a row (kernels, or gradients), or
         lacks rows so often, is set aside if others answered such blocks meanwhile, or one of its
         own. It may return as another process, after a pause that doubles each time, and is set
         aside again at its first failure before an answer. Records outlive death and return.
         A worker is proven if it answers blocks of the kind and fails at most FAILING_SHARE of
         them. A block that failed goes to proven workers that have not tried it; then to others;
         then to any. It is to blame, is quarantined and aborts the run, when it failed on
         FAILED_WORKERS proven workers that have failed nothing else since their last answer; or,
         if all proven workers have tried it, when it failed so often in total. If there is no
         proven worker, failures on others count too, once all workers have tried it. No failure
         counts once a worker has answered the block.
         If all present workers fail everything, the run is aborted, with what each said last; if
         none has ever answered and others may come, only after FIRST_PATIENCE_SECONDS. The learning
         rate is blamed if all credible workers answered numbers that are not finite.
Rule 7   Duplicates. A block is late once it has run SLOW_FACTOR times as long as nine in ten blocks
         of its shape. If no block as urgent is waiting, copies of it and of the block behind it
         are queued for other workers. An idle worker with nothing to do takes over a block that
         waits behind another; one whose residuals the other worker kept only if it would be done
         sooner, its kernel computed again. At most a share COPIES_SHARE of all blocks are copies of
         running blocks, unless their worker seems frozen. The first answer is used, and the answers
         of copies that were computed as well are compared with it.
Rule 8   Verification. For a random share `verify_fraction` of the blocks, two workers must give
         equal answers. If answers differ, a third worker decides; an outvoted worker is dropped as
         a liar. If its answers were already used, the run goes back (server/going_back.py). If
         nobody decides within VERIFIER_PATIENCE_SECONDS, the run is aborted. Unless
         `verify_fraction` is 1, no block waits for a second worker that is not there, or is frozen:
         the first answer is used, and for VERIFIER_PATIENCE_SECONDS, or until the block is
         withdrawn, a second one is still wanted.
Rule 9   Backpressure. The blocks that are out hold at most `max_bytes_out` bytes, or only one is.
         Blocks of frozen workers do not count.
Rule 10  Without workers, the run waits `patience_seconds` for one and is then aborted.
Rule 11  Optional blocks send a worker rows that it may need next. They have the lowest priority and
         go to idle workers. They are never verified, copied, retried or counted as failures.
"""

import dataclasses

# Of these rules: a log is replayed by the version that wrote it.
VERSION = 6

# A worker's first block of a shape includes compilation: a minute for deep pooled kernels.
FIRST_DEADLINE_SECONDS = 900.0
# Later deadlines are generous, because duplicates replace a late block long before.
DEADLINE_FACTOR = 10.0
MIN_DEADLINE_SECONDS = 30.0
# A stalled worker is dropped after this many further minimum deadlines without an answer.
DEADLINES_UNTIL_DROPPED = 3.0

# Priority of blocks that the current step waits for; less urgent blocks have larger numbers.
MOST_URGENT = 0
# Blocks per worker: one is computed while the next one waits.
WINDOW = 2

FAILED_WORKERS = 3
# A worker that fails this many blocks in a row while others succeed is broken.
FAILED_IN_A_ROW = 6
# A worker that fails at most this share of its blocks is proven.
FAILING_SHARE = 0.05
# How long a worker that was set aside may not return: doubles each time, up to a maximum.
FIRST_SECONDS_ASIDE = 10.0
MAX_SECONDS_ASIDE = 600.0
# How long the first workers of a run may fail everything before the run is aborted, if others may
# still come.
FIRST_PATIENCE_SECONDS = 60.0
LOST_IN_A_ROW = 6
# Lost messages of one block, on workers that lost nothing else meanwhile. Beyond this number the
# block itself is suspect.
MAX_LOSSES = 30
FIRST_PAUSE_SECONDS = 0.1
MAX_PAUSE_SECONDS = 5.0

# Relative to the time that nine in ten blocks of the shape stay below.
SLOW_FACTOR = 1.15
# Shorter delays are noise of the network or the machine.
SLOW_SECONDS = 0.05
# Beyond this multiple of the expected time the worker is frozen or gone; copies are then not
# counted against their budget.
FROZEN_FACTOR = 4.0
# A worker that others rely on is not given up before, however short its blocks are.
FROZEN_SECONDS = 2.0
# Budget for copies of running blocks: a share of all blocks sent, and a few initial ones.
COPIES_SHARE, FIRST_COPIES = 0.02, 4
# Late blocks are looked for this long after an event: the larger of this and a share of a block's
# time; then when the first block that is out may be late, and from then on at this interval.
LATE_CHECK_SECONDS, LATE_CHECK_SHARE = 0.02, 0.05
# Interval between checks of deadlines and patience.
CHECK_SECONDS = 0.5
# A worker with more than this multiple of the median block time counts as slow.
SLOW_WORKER = 2.0

# How long a dispute waits for a worker that can decide it, and how long a second answer is wanted.
VERIFIER_PATIENCE_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Policy:
    """Parameters that differ between runs.

    Attributes:
        max_bytes_out: limit on the bytes of requests and answers of all blocks that are out.
        verify_fraction: share of blocks computed by two workers, 0 to 1.
        seed: seed of the choice of these blocks.
        patience_seconds: how long to wait when no worker is present.
    """

    max_bytes_out: int = 512 * 2**20
    verify_fraction: float = 0.0
    seed: int = 0
    patience_seconds: float = 0.0


@dataclasses.dataclass
class SchedulerCounters:
    """Totals since the run started.

    Attributes:
        sent, accepted: blocks sent to workers; answers accepted.
        copies: copies sent of running blocks.
        taken: blocks taken over from behind another block.
        verified: blocks on which two workers agreed.
        unverified: blocks chosen for verification and used without a second worker's answer,
            which may have come later.
        lost, failed: answers lost on the way; failed attempts.
        left: workers that left or were lost.
        worker_seconds, busy_seconds: worker time in total; with at least one block.
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
