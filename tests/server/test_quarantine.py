"""The inputs of a block that failed on every worker are saved, so that it can be run again."""

import pathlib

import numpy as np
import pytest
from pool_requests import CONFIGURE, ROWS, SUPPORT, block, block_vjp

from kipper.common.messages import SUPPORT_KEY
from kipper.server import quarantine

REASONS = ("a: out of memory", "b: it died")


def saved(folder: pathlib.Path, request, row_set) -> dict[str, np.ndarray]:
    path = quarantine.save(folder, request, SUPPORT, row_set, CONFIGURE, REASONS)
    assert path == folder / "quarantine-0.npz"
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def test_a_block_is_saved_with_its_images_and_what_went_wrong(tmp_path: pathlib.Path) -> None:
    arrays = saved(tmp_path, block(1, 4, first=7), ROWS)
    np.testing.assert_array_equal(arrays["rows"], SUPPORT[4:6])
    np.testing.assert_array_equal(arrays["columns"], ROWS[7:10])
    assert not arrays["columns_are_support"]
    assert arrays["reasons"].tolist() == list(REASONS)
    kernel = dict(entry.split("=") for entry in arrays["kernel"].tolist())
    assert kernel["architectures"] == "['fc1']"
    assert (kernel["kind"], kernel["dtype"]) == ("ntk", "float32")
    assert "cotangent" not in arrays


def test_a_vjp_is_saved_with_its_cotangent(tmp_path: pathlib.Path) -> None:
    request = block_vjp(1, 0)
    arrays = saved(tmp_path, request, ROWS)
    np.testing.assert_array_equal(arrays["cotangent"], request.cotangent)


@pytest.mark.parametrize("row_set", [None, ROWS])
def test_the_columns_of_a_support_block_are_support_images(
    tmp_path: pathlib.Path, row_set: np.ndarray | None
) -> None:
    arrays = saved(tmp_path, block(1, 0, key=SUPPORT_KEY, first=5), row_set)
    np.testing.assert_array_equal(arrays["columns"], SUPPORT[5:8])
    assert arrays["columns_are_support"]
