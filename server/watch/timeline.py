"""What a worker did in the last minute, as one letter for every half second."""

from kipper.server.watch.following import Work

SECONDS = 0.5  # per bin
BINS = 120
_LETTERS = "kgewv"  # in the order of `Work`
_IDLE, _AWAY = ".", " "


def bin_of(now: float) -> int:
    """The number of the bin that contains a time."""
    return int(now // SECONDS)


class Lane:
    """Seconds that a worker spent on each kind of work, in a ring of the last `BINS` bins.

    Times are seconds of the scheduler's clock.
    """

    def __init__(self) -> None:
        self._seconds = [[0.0] * len(Work) for _ in range(BINS)]
        self._newest = -BINS
        self.stays: list[list[float]] = []  # [joined, left]; left is inf while it is present

    def joined(self, now: float) -> None:
        """Records that the worker joined."""
        self.stays.append([now, float("inf")])

    def left(self, now: float) -> None:
        """Records that the worker left."""
        self.stays[-1][1] = now
        self.stays = [stay for stay in self.stays if stay[1] > now - BINS * SECONDS]

    def worked(self, kind: Work, start: float, stop: float) -> None:
        """Records work; each call's `stop` must be no earlier than that of the calls before."""
        first, last = bin_of(start), bin_of(stop)
        if last > self._newest:
            self._advance(last)
        for number in range(max(first, last - BINS + 1), last + 1):
            begin, end = max(start, number * SECONDS), min(stop, (number + 1) * SECONDS)
            self._seconds[number % BINS][kind] += end - begin

    def letters(self, now: float, busy: tuple[Work, float] | None) -> str:
        """The last `BINS` bins, that of `now` at the end.

        A bin in which the worker was busy for half the time has the letter of its main work.

        Args:
            now: no earlier than any recorded time.
            busy: kind and start of the worker's present work.
        """
        shown = self.copy()
        if busy is not None:
            shown.worked(busy[0], min(busy[1], now), now)
        last = bin_of(now)
        shown._advance(last)
        return "".join(shown._letter(number, now) for number in range(last - BINS + 1, last + 1))

    def copy(self) -> "Lane":
        """A copy that does not change with this lane."""
        lane = Lane()
        lane._seconds, lane._newest = [list(each) for each in self._seconds], self._newest
        lane.stays = [list(stay) for stay in self.stays]
        return lane

    def _letter(self, number: int, now: float) -> str:
        start = number * SECONDS
        stop = max(min(start + SECONDS, now), start + 1e-6)
        if not any(joined < stop and left > start for joined, left in self.stays):
            return _AWAY
        seconds = self._seconds[number % BINS]
        if 2 * sum(seconds) < stop - start:
            return _IDLE
        return _LETTERS[seconds.index(max(seconds))]

    def _advance(self, last: int) -> None:
        """Clears the bins after the newest one, up to this one."""
        for number in range(max(self._newest + 1, last - BINS + 1), last + 1):
            self._seconds[number % BINS] = [0.0] * len(Work)
        self._newest = max(self._newest, last)
