"""Letters of a worker's last minute."""

import math

from kipper.server.watch.following import Work
from kipper.server.watch.timeline import BINS, SECONDS, Lane


def lane(*spans, joined=0.0):
    made = Lane()
    made.joined(joined)
    for kind, start, stop in spans:
        made.worked(kind, start, stop)
    return made


def test_a_bin_has_the_letter_of_what_took_most_of_it():
    spans = [
        (Work.KERNEL, 0, 0.3),
        (Work.GRADIENT, 0.3, 0.5),
        (Work.EVALUATION, 0.6, 1),
        (Work.ROWS, 1, 1.5),
    ]
    found = lane(*spans, (Work.WASTED, 1.5, 2.5)).letters(3.0 - 1e-9, None)
    assert found[-6:] == "kewvv."
    assert found[:-6] == " " * (BINS - 6)


def test_less_than_half_a_bin_is_idle():
    assert lane((Work.KERNEL, 0, 0.24)).letters(0.499, None)[-1] == "."
    assert lane((Work.KERNEL, 0, 0.26)).letters(0.499, None)[-1] == "k"


def test_a_long_block_fills_all_its_bins_and_what_is_older_than_a_minute_is_gone():
    found = lane((Work.KERNEL, 0, 1000.25)).letters(1000.3, None)
    assert found == "k" * BINS
    found = lane((Work.KERNEL, 0, 10), (Work.GRADIENT, 100, 130)).letters(150 - 1e-9, None)
    assert found == "." * 20 + "g" * 60 + "." * 40
    assert lane((Work.KERNEL, 0, 10)).letters(500.0, None) == "." * BINS


def test_work_under_way_is_shown_and_changes_nothing():
    made = lane((Work.KERNEL, 0, 1))
    assert made.letters(5 - 1e-9, (Work.GRADIENT, 2.0))[-10:] == "kk..gggggg"
    assert made.letters(5 - 1e-9, None)[-10:] == "kk........"


def test_where_the_worker_was_not_there_is_nothing():
    made = lane((Work.KERNEL, 1, 2), joined=1.0)
    made.left(3.0)
    made.joined(4.0)
    assert made.letters(5 - 1e-9, None)[-10:] == "  kk..  .."


def test_stays_are_forgotten_after_a_minute():
    made = Lane()
    for second in range(10_000):
        made.joined(second)
        made.left(second + 0.5)
    assert len(made.stays) <= BINS * SECONDS + 1
    assert math.isfinite(made.stays[-1][1])


def test_a_copy_does_not_change():
    made = lane((Work.KERNEL, 0, 1))
    copy = made.copy()
    made.worked(Work.GRADIENT, 1, 3)
    made.left(3.0)
    assert copy.letters(3 - 1e-9, None)[-6:] == "kk...."
