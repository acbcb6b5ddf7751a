"""What is on a worker, on its way there, or yet to be sent."""

import numpy as np
import pytest
from pool_requests import block

from kipper.common.messages import SUPPORT_KEY, PutRows, PutSupport
from kipper.server import deliveries as deliveries_module
from kipper.server.deliveries import Deliveries, Support

ROWS = np.arange(12 * 4, dtype=np.float32).reshape(12, 2, 2, 1)
SUPPORT = Support(3, 0, np.arange(8 * 4, dtype=np.float32).reshape(8, 2, 2, 1))


@pytest.fixture
def worker() -> Deliveries:
    return Deliveries({"rows": ROWS})


def needed(worker: Deliveries, start: int = 0, **block_of):
    return worker.needed(block(SUPPORT.version, start, **block_of), SUPPORT)


def arrive(worker: Deliveries, deliveries) -> None:
    for delivery in deliveries:
        worker.arrived(delivery.number)


def test_a_block_waits_for_all_it_needs_and_then_needs_nothing(worker: Deliveries) -> None:
    deliveries, awaited = needed(worker, first=2)
    assert awaited == {delivery.number for delivery in deliveries}
    support, rows = (delivery.request for delivery in deliveries)
    assert isinstance(support, PutSupport)
    assert (support.version, support.total, support.start) == (3, 8, 0)
    assert np.array_equal(support.images, SUPPORT.images[:2])
    assert isinstance(rows, PutRows)
    assert (rows.key, rows.total, rows.index.tolist()) == ("rows", 12, [2, 3, 4])
    assert np.array_equal(rows.rows, ROWS[2:5])
    arrive(worker, deliveries)
    assert needed(worker, first=2) == ([], set())


def test_rows_under_way_are_not_sent_again(worker: Deliveries) -> None:
    first, awaited = needed(worker, first=2)
    again, awaited_again = needed(worker, first=2)
    assert again == []
    assert awaited_again == awaited
    more, awaited_too = needed(worker, first=3)  # rows 3 and 4 are on their way
    (delivery,) = more
    assert delivery.request.index.tolist() == [5]
    assert awaited_too == awaited | {delivery.number}
    arrive(worker, first)
    assert needed(worker, first=3) == ([], {delivery.number})


def test_lost_rows_are_sent_again(worker: Deliveries) -> None:
    deliveries, _ = needed(worker)
    for delivery in deliveries:
        worker.lost(delivery.number)
    again, _ = needed(worker)
    assert [type(d.request) for d in again] == [type(d.request) for d in deliveries]
    assert not {d.number for d in again} & {d.number for d in deliveries}


def test_a_worker_that_forgot_is_sent_everything_and_late_words_of_old_deliveries_mean_nothing(
    worker: Deliveries,
) -> None:
    arrive(worker, needed(worker, start=2)[0])
    old, _ = needed(worker)
    worker.forget()
    new, awaited = needed(worker)
    assert len(new) == 2
    arrive(worker, old)
    assert needed(worker) == ([], awaited)
    arrive(worker, new)
    assert needed(worker) == ([], set())
    assert len(needed(worker, start=2)[0]) == 1  # its support; the rows have come again


def test_the_columns_of_a_support_block_are_support(worker: Deliveries) -> None:
    deliveries, _ = needed(worker, key=SUPPORT_KEY, first=5)
    assert [(d.request.start, len(d.request.images)) for d in deliveries] == [(0, 2), (5, 3)]
    arrive(worker, deliveries)
    again, _ = needed(worker, start=0, key=SUPPORT_KEY, first=0, columns=2)
    assert again == []  # on the diagonal rows and columns are the same


def test_a_complete_row_set_is_never_sent(worker: Deliveries) -> None:
    worker.complete = frozenset({"rows"})
    deliveries, _ = needed(worker)
    assert [type(delivery.request) for delivery in deliveries] == [PutSupport]
    assert worker.share_held("rows") == 1.0


def test_each_version_of_the_support_is_sent(worker: Deliveries) -> None:
    arrive(worker, needed(worker)[0])
    newer = Support(4, 0, SUPPORT.images + 1)
    (delivery,), _ = worker.needed(block(4, 0), newer)
    assert np.array_equal(delivery.request.images, newer.images[:2])
    assert needed(worker) == ([], set())
    worker.forget_support_before(4)
    assert len(needed(worker)[0]) == 1
    worker.arrived(delivery.number)
    assert worker.needed(block(4, 0), newer) == ([], set())


def test_rows_travel_in_pieces(worker: Deliveries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries_module, "PIECE_BYTES", 5 * ROWS[0].nbytes)
    deliveries, awaited = needed(worker, columns=12)
    rows = [d.request for d in deliveries if isinstance(d.request, PutRows)]
    assert [len(put.index) for put in rows] == [5, 5, 2]
    assert len(awaited) == 4
    worker.lost(deliveries[2].number)
    worker.arrived(deliveries[3].number)
    again, _ = needed(worker, columns=12)
    assert [d.request.index.tolist() for d in again] == [list(range(5, 10))]


def test_a_row_named_twice_is_sent_once(worker: Deliveries) -> None:
    request = block(SUPPORT.version, 0)
    request.columns[:] = [7, 7, 1]
    deliveries, _ = worker.needed(request, SUPPORT)
    assert deliveries[1].request.index.tolist() == [1, 7]


def test_how_much_of_a_set_is_there(worker: Deliveries) -> None:
    assert worker.share_held("rows") == 0.0
    deliveries, _ = needed(worker, columns=6)
    assert worker.share_held("rows") == 0.0
    arrive(worker, deliveries)
    assert worker.share_held("rows") == 0.5
    worker.forget()
    assert worker.share_held("rows") == 0.0
