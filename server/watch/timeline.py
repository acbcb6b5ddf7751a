"""What a worker did in the last minute, a letter for every half second."""

from kipper.server.watch.following import IN_VAIN, KINDS

SECONDS = 0.5  # of a bin
BINS = 120
_LETTERS = "kgewv"  # in the order of `KINDS`
_IDLE, _AWAY = ".", " "


def bin_of(now: float) -> int:
    """The number of the bin that a time is in."""
    return int(now // SECONDS)


class Lane:
    """Seconds that a worker spent on each kind of work, by bin; a ring of the last `BINS`.

    Times are seconds of the scheduler's clock.
    """

    def __init__(self) -> None:
        self._seconds = [0.0] * (BINS * len(KINDS))
        self._newest = -BINS
        self.stays: list[list[float]] = []  # [came, left], of one that is there [came, inf]

    def came(self, now: float) -> None:
        """The worker is there from now on."""
        self.stays.append([now, float("inf")])

    def left(self, now: float) -> None:
        """The worker is gone."""
        self.stays[-1][1] = now
        self.stays = [stay for stay in self.stays if stay[1] > now - BINS * SECONDS]

    def spent(self, kind: int, start: float, stop: float) -> None:
        """The worker was busy for a while, that ended after all it is told of before."""
        last = int(stop // SECONDS)
        if last > self._newest:
            self._advance(last)
        first = int(start // SECONDS)
        seconds = self._seconds
        if first == last:
            seconds[first % BINS * len(KINDS) + kind] += stop - start
            return
        if first > last - BINS:
            seconds[first % BINS * len(KINDS) + kind] += (first + 1) * SECONDS - start
        for between in range(max(first, last - BINS) + 1, last):
            seconds[between % BINS * len(KINDS) + kind] += SECONDS
        seconds[last % BINS * len(KINDS) + kind] += stop - last * SECONDS

    def letters(self, now: float, busy: tuple[int, float] | None) -> str:
        """The last `BINS` bins, that of `now` at the end.

        A bin has the letter of what took most of it, if it was busy for half its time.

        Args:
            now: no earlier than all that it was told.
            busy: the kind of what the worker is at now, and since when.
        """
        shown = self.copy()
        if busy is not None:
            shown.spent(busy[0], min(busy[1], now), now)
        last = bin_of(now)
        shown._advance(last)
        first = last - BINS + 1
        return "".join(shown._letter(each, now) for each in range(first, last + 1))

    def copy(self) -> "Lane":
        """One that stays as this is now."""
        lane = Lane()
        lane._seconds, lane._newest = list(self._seconds), self._newest
        lane.stays = [list(stay) for stay in self.stays]
        return lane

    def _letter(self, number: int, now: float) -> str:
        start = number * SECONDS
        stop = max(min(start + SECONDS, now), start + 1e-6)
        if not any(came < stop and left > start for came, left in self.stays):
            return _AWAY
        place = number % BINS * len(KINDS)
        seconds = self._seconds[place : place + len(KINDS)]
        if 2 * sum(seconds) < stop - start:
            return _IDLE
        return _LETTERS[seconds.index(max(seconds))]

    def _advance(self, last: int) -> None:
        """Makes room for bins up to that number."""
        for number in range(max(self._newest + 1, last - BINS + 1), last + 1):
            place = number % BINS * len(KINDS)
            self._seconds[place : place + len(KINDS)] = [0.0] * len(KINDS)
        self._newest = max(self._newest, last)


assert len(_LETTERS) == len(KINDS) == IN_VAIN + 1
