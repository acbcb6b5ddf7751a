"""Arrays that are kept on a device while there is room."""

import numpy as np

from kipper.workers.kept_outputs import KeptOutputs

FLOAT32 = np.dtype("float32")


class _Device:
    """A device with 4,000 bytes, so that 1,000 are for arrays that are kept."""

    memory = 4000

    def __init__(self):
        self.refused = 0

    def empty(self, count, dtype):
        if self.refused:
            self.refused -= 1
            raise MemoryError
        return np.zeros(count, dtype)


def _found(kept):
    return [each.array is not None for each in kept]


def test_the_oldest_arrays_make_room():
    outputs = KeptOutputs(_Device())
    kept = [outputs.new(100, FLOAT32) for _ in range(3)]
    assert _found(kept) == [False, True, True]
    kept.append(outputs.new(200, FLOAT32))
    assert _found(kept) == [False, False, False, True]
    assert outputs.forget_oldest()
    assert not outputs.forget_oldest()
    assert _found(kept) == [False] * 4


def test_arrays_that_nobody_wants_any_more_take_no_room():
    outputs = KeptOutputs(_Device())
    kept = [outputs.new(100, FLOAT32) for _ in range(2)]
    del kept[1]
    kept.append(outputs.new(150, FLOAT32))
    assert _found(kept) == [True, True]


def test_an_array_without_room_is_not_kept_and_makes_none():
    device = _Device()
    outputs = KeptOutputs(device)
    kept = [outputs.new(100, FLOAT32), outputs.new(251, FLOAT32)]
    assert kept[1] is None
    assert _found(kept[:1]) == [True]
    device.refused = 1  # the oldest makes room
    kept = [kept[0], outputs.new(100, FLOAT32)]
    assert _found(kept) == [False, True]
    device.refused = 2
    assert outputs.new(100, FLOAT32) is None
    assert _found(kept) == [False, False]
