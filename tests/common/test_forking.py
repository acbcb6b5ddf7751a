"""Processes that were forked from one that had computed."""

import multiprocessing

import numpy as np
import pytest

import kipper
from kipper.common.errors import UserError

pytestmark = [
    pytest.mark.processes,
    pytest.mark.filterwarnings("ignore:os.fork"),
    pytest.mark.filterwarnings("ignore:This process"),
]
IMAGES = np.ones((2, 4, 4, 1), np.float32)


def kernel() -> "np.ndarray | str":
    try:
        return kipper.kernel(IMAGES, architecture="fc1")
    except UserError as error:
        return str(error)


def test_a_forked_process_says_that_it_cannot_compute_and_what_can() -> None:
    assert not isinstance(kernel(), str)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        sentence = pool.apply_async(kernel).get(30)
    assert "get_context('spawn')" in str(sentence)
