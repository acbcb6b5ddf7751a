"""Which workers' answers a run's results rest on, and where they are in doubt if a worker lied.

A result rests on the workers whose equal answers were seen: on one worker alone, or, if a second
one computed the block as well, on both. It is in doubt once all of them are known to be liars.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping

from kipper.common.errors import WorkerError
from kipper.server.records import Json

# Limit on pairs of workers, of which a large cluster has very many. Further pairs are believed even
# if both turn out to be liars.
_MOST_GROUPS = 1000


class LiesUsed(WorkerError):
    """The run has used wrong numbers, and the workers that computed them were found out.

    Attributes:
        position: the states up to this position do not depend on the wrong numbers.
    """

    def __init__(self, position: int, liars: Collection[str]):
        names = _listed(liars)
        super().__init__(
            f"The run stopped: wrong numbers of {names} had been used already; keep it away and "
            "give the same command again (with --verify_fraction=1 such numbers are never used)."
        )
        self.position = position


@dataclasses.dataclass
class _Followed:
    """A block that may get further answers, or whose result has not been used.

    Attributes:
        groups: workers that answered, grouped by equal answers.
        accepted: the worker whose answer is the result.
        position: where the result was used.
        finished: whether no further answer will come.
    """

    groups: list[set[str]] = dataclasses.field(default_factory=list)
    accepted: str | None = None
    position: int | None = None
    finished: bool = False

    @property
    def believed(self) -> frozenset[str]:
        """The workers that gave the accepted answer."""
        return frozenset(next(group for group in self.groups if self.accepted in group))


class Confirmations:
    """Which workers' answers results rest on: for each group, where its first result was used.

    Positions are those of a run's states: gradient steps made, or target images summed. A result
    that is used at a position affects the states after it. Memory does not grow with the positions.

    Attributes:
        liars: workers that lied, each with the position that the run went back to.
    """

    def __init__(self) -> None:
        self.liars: dict[str, int] = {}
        self._first: dict[frozenset[str], int] = {}
        self._followed: dict[int, _Followed] = {}
        self._used = 0
        self._confirmed = 0

    # --- called by the pool ----------------------------------------------------------------------

    def answered(self, block: int, worker: str, agrees: Collection[str]) -> None:
        """A worker answered; `agrees` names the workers whose earlier answers are equal."""
        followed = self._followed.setdefault(block, _Followed())
        for group in followed.groups:
            if not group.isdisjoint(agrees):
                group.add(worker)
                return
        followed.groups.append({worker})

    def accepted(self, block: int, worker: str) -> None:
        """The worker's answer became the block's result."""
        self._followed[block].accepted = worker

    def used(self, block: int, position: int) -> None:
        """The block's result was used to get from a position to the next."""
        followed = self._followed.get(block)
        if followed is None:  # it requested no numbers
            return
        followed.position = position
        if followed.finished:
            self._conclude(block)

    def finished(self, block: int) -> None:
        """No further answer to the block will be compared."""
        followed = self._followed.get(block)
        if followed is None:
            return
        followed.finished = True
        if followed.accepted is None or followed.position is not None:
            self._conclude(block)

    def withdrawn(self, block: int) -> None:
        """The block's result will not be used, unless it has been."""
        followed = self._followed.get(block)
        if followed is not None and followed.position is None:
            del self._followed[block]

    # --- questions -------------------------------------------------------------------------------

    @property
    def num_used(self) -> int:
        """Number of blocks whose results were used."""
        return self._used + sum(1 for _ in self._used_and_followed())

    @property
    def num_confirmed(self) -> int:
        """Number of these on which two workers agreed."""
        return self._confirmed + sum(len(f.believed) > 1 for _, f in self._used_and_followed())

    def in_doubt_from(self, doubted: Collection[str], position: int) -> int | None:
        """The last position before the first result of these workers alone; None if they have none.

        `position` is the present one, at which results that wait will be used.
        """
        if not doubted:
            return None
        suspects = frozenset(doubted)
        found = [first for group, first in self._first.items() if group <= suspects]
        for followed in self._followed.values():
            if followed.accepted is not None and followed.believed <= suspects:
                found.append(position if followed.position is None else followed.position)
        return min(found, default=None)

    @property
    def positions(self) -> set[int]:
        """All positions to which the run would go back for one worker's lies."""
        return {first for group, first in self._first.items() if len(group) < 2}

    # --- in files --------------------------------------------------------------------------------

    def record(self) -> Json:
        """What `read` restores; blocks that are still followed count as they are now."""
        first = dict(self._first)
        for position, followed in self._used_and_followed():
            _put(first, followed.believed, position)
        groups = [[position, sorted(group)] for group, position in first.items()]
        return {
            "used": self.num_used,
            "confirmed": self.num_confirmed,
            "first": sorted(groups),
            "liars": self.liars,
        }

    @classmethod
    def read(cls, record: Json | None, step: int) -> "Confirmations":
        """Restores what `record` returned, for the state at a step; later positions are left out.

        Without a record, any worker that turns out to be a liar may have computed everything.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        found = cls()
        if record is None:
            found._first = {frozenset(): 0} if step > 0 else {}
            return found
        found._used, found._confirmed = int(record["used"]), int(record["confirmed"])
        found._first = {
            frozenset(map(str, group)): int(position)
            for position, group in record["first"]
            if position < step
        }
        found.liars = {str(name): int(position) for name, position in record["liars"].items()}
        return found

    def _used_and_followed(self) -> Iterator[tuple[int, _Followed]]:
        for followed in self._followed.values():
            if followed.position is not None:
                yield followed.position, followed

    def _conclude(self, block: int) -> None:
        followed = self._followed.pop(block)
        if followed.accepted is None or followed.position is None:
            return
        self._used += 1
        self._confirmed += len(followed.believed) > 1
        _put(self._first, followed.believed, followed.position)


def _put(first: dict[frozenset[str], int], group: frozenset[str], position: int) -> None:
    if len(group) < 2 or group in first or len(first) < _MOST_GROUPS:
        first[group] = min(position, first.get(group, position))


def about_liars(liars: Mapping[str, int], unit: str) -> str:
    """A sentence about `Confirmations.liars`; `unit` is that of positions."""
    found = [f"{name} (from {unit} {position:,} on)" for name, position in sorted(liars.items())]
    return f"wrong numbers of {' and '.join(found)} were found and computed again"


def _listed(names: Collection[str]) -> str:
    return " and ".join(sorted(names))
