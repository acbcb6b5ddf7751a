"""Which workers are broken, and which workers' failures count against a block (rule 6)."""

import dataclasses

from kipper.server.scheduler import rules

# Workers that are gone are remembered for their failures, up to this number.
_REMEMBERED = 1000


@dataclasses.dataclass(slots=True)
class TrackRecord:
    """A worker's record with blocks of one kind.

    Attributes:
        answers, failures: usable answers; failed attempts.
        in_a_row: the blocks that failed since the last answer, one entry for each attempt.
        since: when the first of these failed.
        others_before: the answers of all workers when it failed.
        refuted: whether another worker has answered one of these blocks.
    """

    answers: int = 0
    failures: int = 0
    in_a_row: list[int] = dataclasses.field(default_factory=list)
    since: float = 0.0
    others_before: int = 0
    refuted: bool = False


@dataclasses.dataclass
class Health:
    """The records of workers, by name, so that they outlive a worker's death and return.

    Attributes:
        records: by worker, then by kind of block.
        answers: usable answers of all workers, by kind of block.
        said: the last message of each worker with failures.
        times_aside: how often each worker was set aside.
    """

    records: dict[str, dict[str, TrackRecord]] = dataclasses.field(default_factory=dict)
    answers: dict[str, int] = dataclasses.field(default_factory=dict)
    said: dict[str, str] = dataclasses.field(default_factory=dict)
    times_aside: dict[str, int] = dataclasses.field(default_factory=dict)

    def record(self, worker: str, kind: str) -> TrackRecord:
        """The worker's record with this kind of block; an empty one if it has none."""
        return self.records.get(worker, {}).get(kind) or TrackRecord()

    def answered(self, worker: str, kind: str) -> None:
        """Notes a usable answer."""
        record = self._kept(worker, kind)
        record.answers += 1
        record.in_a_row.clear()
        record.refuted = False
        self.answers[kind] = self.answers.get(kind, 0) + 1

    def failed(
        self, worker: str, kind: str, block: int, message: str, refuted: bool, now: float
    ) -> None:
        """Notes a failure; `refuted`: another worker has answered the block."""
        record = self._kept(worker, kind)
        if not record.in_a_row:
            record.since = now
            record.others_before = self.answers.get(kind, 0)
        record.failures += 1
        record.in_a_row.append(block)
        del record.in_a_row[: -rules.FAILED_IN_A_ROW]
        record.refuted = record.refuted or refuted
        self.said[worker] = message

    def joined(self, worker: str) -> None:
        """Gives one attempt to a worker that failed before it left, and joins again."""
        for record in self.records.get(worker, {}).values():
            del record.in_a_row[: 1 - rules.FAILED_IN_A_ROW]

    def left(self, worker: str) -> None:
        """Forgets a worker without recent failures."""
        records = self.records.get(worker, {})
        if not any(record.in_a_row for record in records.values()):
            self._forget(worker)
        elif len(self.records) > _REMEMBERED:
            self._forget(next(iter(self.records)))

    def set_aside(self, worker: str) -> float:
        """Notes that a worker is set aside; returns for how many seconds at least."""
        times = self.times_aside[worker] = self.times_aside.get(worker, 0) + 1
        pause = rules.FIRST_SECONDS_ASIDE * 2.0 ** min(times - 1, 16)
        return min(rules.MAX_SECONDS_ASIDE, pause)

    def is_failing(self, worker: str, kind: str) -> bool:
        """Whether its last attempts all failed."""
        return len(self.record(worker, kind).in_a_row) >= rules.FAILED_IN_A_ROW

    def is_broken(self, worker: str, kind: str) -> bool:
        """Whether its last attempts all failed while other workers succeeded."""
        record = self.record(worker, kind)
        others = self.answers.get(kind, 0) > record.others_before
        return self.is_failing(worker, kind) and (others or record.refuted)

    def is_proven(self, worker: str, kind: str, forgiven: int = 0) -> bool:
        """Whether it answers such blocks and fails few of them, apart from `forgiven` attempts."""
        record = self.record(worker, kind)
        failures = max(0, record.failures - forgiven)
        few = failures <= rules.FAILING_SHARE * record.answers
        return record.answers > 0 and few and not self.is_failing(worker, kind)

    def fails_only(self, worker: str, kind: str, block: int) -> bool:
        """Whether it has failed no other block since its last answer."""
        return all(failed == block for failed in self.record(worker, kind).in_a_row)

    def _kept(self, worker: str, kind: str) -> TrackRecord:
        return self.records.setdefault(worker, {}).setdefault(kind, TrackRecord())

    def _forget(self, worker: str) -> None:
        for kept in (self.records, self.said, self.times_aside):
            kept.pop(worker, None)
