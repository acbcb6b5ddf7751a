"""Options of a pool."""

import dataclasses
import pathlib

from kipper.server.pool_worker import KnownBlock
from kipper.server.run_numerics import Admission
from kipper.server.scheduler.rules import Policy
from kipper.server.watch.watch import Watch


@dataclasses.dataclass(frozen=True)
class PoolOptions:
    """Options of a pool.

    Attributes:
        policy: the policy of the scheduler.
        known: a block to check each worker with before it gets others.
        folder: where the scheduler's log and quarantined blocks are written; None: nowhere.
        bans: the file that keeps bans; None: bans end with this pool.
        disputes: the file that keeps open disputes; None: a killed coordinator forgets them.
        elastic: whether workers may still join, so that the pool may be without workers.
        watch: receives what happens, for the live page; None if there is none.
        admission: decides by numeric identity which workers may compute.
    """

    policy: Policy = dataclasses.field(default_factory=lambda: Policy(patience_seconds=10.0))
    known: KnownBlock | None = None
    folder: pathlib.Path | None = None
    bans: pathlib.Path | None = None
    disputes: pathlib.Path | None = None
    elastic: bool = False
    watch: Watch | None = None
    admission: Admission = dataclasses.field(default_factory=Admission)
