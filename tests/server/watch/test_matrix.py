"""Maps of kernel matrices: where cells are, and their letters."""

import numpy as np
import pytest

from kipper.server.scheduler.events import BlockSpec
from kipper.server.scheduler.ledger import BlockRecord
from kipper.server.tiling import spans, triangle
from kipper.server.watch.matrix import MAX_CELLS, FillMap, Grid


def record(**changes):
    found = BlockRecord(BlockSpec(1, "K 1x1", 0, (("rows", 1),), 1))
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def grid(support=10, targets=7, largest=(4, 3), with_triangle=True, urgent=True):
    return Grid(
        "kernel", spans(support, largest[0]), spans(targets, largest[1]), with_triangle, urgent
    )


def shown(fill):
    return fill.view().to_json()


def test_cells_are_those_of_the_tiling_in_its_order():
    found = shown(FillMap(grid()))
    rows = spans(10, 4)
    expected = [(*a, *b) for a, b in triangle(10, 4)]
    expected += [(*r, 10 + t[0], 10 + t[1]) for t in spans(7, 3) for r in rows]
    assert found["cells"] == expected
    assert (found["support"], found["targets"]) == (10, 7)
    assert found["states"] == "q" * len(expected)


def test_each_letter_says_what_the_scheduler_knows():
    fill = FillMap(grid())
    fill.queued(range(101, 108))
    ledger = {
        101: record(accepted="a", out={"b"}),  # a copy of it is still out
        103: record(out={"a"}),
        104: record(out={"a", "b"}),
        105: record(failures=1, out={"a"}),
        106: record(losses=2),
        107: record(),
    }
    fill.update(ledger)
    assert shown(fill)["states"] == "DDrdxxq" + "q" * 8
    assert fill.is_in_progress
    fill.update({})
    assert shown(fill)["states"] == "DDDDDDD" + "q" * 8
    fill.queued(range(108, 116))
    fill.update({})
    assert (set(shown(fill)["states"]), fill.is_in_progress) == ({"D"}, False)


def test_what_is_withdrawn_waits_and_the_map_is_under_way_no_more():
    fill = FillMap(grid())
    fill.queued([1, 2, 3])
    fill.update({2: record(out={"a"}), 3: record(out={"a"})})
    fill.withdrawn([2, 3], done={3})
    assert shown(fill)["states"].startswith("DqD")
    assert not fill.is_in_progress


def test_a_picture_does_not_change():
    fill = FillMap(grid())
    before = fill.view()
    fill.queued([1])
    fill.update({})
    assert set(before.to_json()["states"]) == {"q"}


def test_a_part_of_a_row_set_begins_at_its_first_column():
    found = shown(FillMap(Grid("kernel", spans(10, 5), [(30, 35), (35, 40)], False, False)))
    assert found["cells"] == [(0, 5, 10, 15), (5, 10, 10, 15), (0, 5, 15, 20), (5, 10, 15, 20)]
    assert found["targets"] == 10


@pytest.mark.parametrize(("support", "targets"), [(200, 0), (0, 999), (100, 300), (97, 31)])
def test_large_matrices_are_shown_coarsely_by_the_state_worth_knowing(support, targets):
    side = max(support, 100)
    fill = FillMap(Grid("kernel", spans(side, 1), spans(targets, 1), support > 0, True))
    number = len(shown(fill)["states"])
    assert 0 < number <= MAX_CELLS
    blocks = (side * (side + 1) // 2 if support else 0) + targets * side
    fill.queued(range(blocks))
    fill.update({blocks - 1: record(failures=1)})
    states = shown(fill)["states"]
    assert (states[-1], set(states[:-1])) == ("x", {"D"})
    area = [(c[1] - c[0]) * (c[3] - c[2]) for c in shown(fill)["cells"]]
    assert np.array(area).min() > 0


def test_an_empty_matrix_has_no_cells():
    assert shown(FillMap(grid(0, 0)))["cells"] == []
