"""Which thread's turn it is to compute."""

import threading

import pytest

from kipper.workers.turns import Turns


def test_too_little_memory_beside_another_is_tried_again_alone():
    turns, began, end, tries = Turns(2), threading.Event(), threading.Event(), []

    def other():
        began.set()
        assert end.wait(10)
        tries.append("other")

    def hungry():
        assert began.wait(10)
        tries.append("hungry")
        if "other" not in tries:
            end.set()
            raise MemoryError
        return "done"

    thread = threading.Thread(target=turns.run, args=(other,))
    thread.start()
    assert turns.run(hungry) == "done"
    thread.join()
    assert tries[-2:] == ["other", "hungry"]


@pytest.mark.parametrize(("most", "tries"), [(1, 1), (2, 2)])
def test_too_little_memory_for_one_alone_is_an_error_and_ends_the_turn(most, tries):
    turns, tried = Turns(most), []

    def hungry():
        tried.append(1)
        raise MemoryError

    with pytest.raises(MemoryError):
        turns.run(hungry)
    assert len(tried) == tries
    with turns.alone():
        pass
