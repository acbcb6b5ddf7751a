"""Row sets, as far as their rows have arrived."""

import threading

import numpy as np
import pytest

from kipper.common.errors import WorkerError
from kipper.workers.row_store import RowsMissing, RowStore

ROWS = np.random.default_rng(0).normal(size=(7, 4, 4, 1)).astype(np.float32)
KEY = "k" * 64


def put(store: RowStore, *index: int, total: int = 7, key: str = KEY) -> None:
    store.put(key, total, np.array(index), ROWS[list(index)])


def test_rows_arrive_in_any_order_and_repeated():
    store = RowStore()
    for index in ((4, 0), (0, 2), (6,)):
        put(store, *index)
    assert store.keys() == []
    rows, total = store.take(KEY, np.array([6, 0, 6]), "float64")
    assert np.array_equal(rows, ROWS[[6, 0, 6]])
    assert rows.dtype == np.float64
    assert total == 7


def test_a_set_of_which_every_row_came_is_complete():
    store = RowStore({"a": ROWS})
    put(store, 1, 3, 5, 0)
    assert store.keys() == ["a"]
    put(store, 2, 4, 6)
    assert store.keys() == ["a", KEY]


def test_a_row_that_has_not_come_is_missing():
    store = RowStore()
    with pytest.raises(RowsMissing, match="Row set kkkkkkkkkkkk is not on this worker"):
        store.take(KEY, np.array([1]), "float32")
    put(store, 1, 2)
    with pytest.raises(RowsMissing, match="Rows of set kkkkkkkkkkkk are not on this worker"):
        store.take(KEY, np.array([1, 3]), "float32")
    rows, _ = store.take(KEY, np.array([2, 1]), "float32")
    assert np.array_equal(rows, ROWS[[2, 1]])


def test_rows_that_are_there_from_the_start_are_not_copied_or_overwritten():
    store = RowStore({KEY: ROWS})
    store.put(KEY, 7, np.array([1]), ROWS[:1] + 1)
    rows, _ = store.take(KEY, np.arange(7), "float32")
    assert np.array_equal(rows, ROWS)


@pytest.mark.parametrize("index", [[7], [-1], [0, 99]])
@pytest.mark.parametrize("complete", [False, True])
def test_an_index_outside_the_set_is_refused_and_not_missing(index, complete):
    store = RowStore({KEY: ROWS} if complete else {})
    if not complete:
        put(store, *range(7))
    with pytest.raises(WorkerError, match="outside row set") as caught:
        store.take(KEY, np.array(index), "float32")
    assert not isinstance(caught.value, RowsMissing)


@pytest.mark.parametrize(
    ("total", "index", "rows"),
    [
        (7, [7], ROWS[:1]),
        (7, [-1], ROWS[:1]),
        (7, [0, 1], ROWS[:1]),
        (8, [0], ROWS[:1]),
        (7, [0], ROWS[:1, :2]),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_change_nothing(total, index, rows):
    store = RowStore()
    put(store, 3)
    with pytest.raises(WorkerError, match="do not fit a row set of float32"):
        store.put(KEY, total, np.array(index), rows)
    kept, _ = store.take(KEY, np.array([3]), "float32")
    assert np.array_equal(kept, ROWS[[3]])
    with pytest.raises(RowsMissing):
        store.take(KEY, np.array([0]), "float32")


@pytest.mark.parametrize("total", [-1, 2**50])
def test_a_set_of_absurd_size_is_refused(total):
    with pytest.raises(WorkerError, match=f"A row set of {total} rows of this size exceeds"):
        RowStore().put(KEY, total, np.array([0]), ROWS[:1])


def test_no_rows_are_rows_too():
    store = RowStore()
    store.put(KEY, 7, np.zeros(0, np.int64), ROWS[:0])
    rows, total = store.take(KEY, np.zeros(0, np.int64), "float32")
    assert rows.shape == (0, 4, 4, 1)
    assert total == 7


def test_several_threads_may_bring_and_take_rows():
    store = RowStore()
    failures = []

    def bring(first):
        for row in range(first, 7, 2):
            put(store, row)
            rows, _ = store.take(KEY, np.array([row]), "float32")
            if not np.array_equal(rows, ROWS[[row]]):
                failures.append(row)

    threads = [threading.Thread(target=bring, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.keys() == [KEY]
