"""Data sets of arrays in memory: layouts, scales and labels as people have them."""

import contextlib
import re

import numpy as np
import pytest

from kipper.common.datasets import dataset_of_arrays, split_rows
from kipper.common.datasets.pixels import channel_order
from kipper.common.errors import UserError
from kipper.common.notices import DataWarning

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (6, 12, 12, 3), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def _data_set(x_train=BYTES, y_train=LABELS, x_test=None, y_test=None, **others):
    arrays = {
        "x_train": x_train,
        "y_train": y_train,
        "x_test": x_train[:3] if x_test is None else x_test,
        "y_test": y_train[:3] if y_test is None else y_test,
    }
    return dataset_of_arrays(arrays | others, "arrays", "the data")


def _said(*fragments):
    return pytest.warns(DataWarning, match=".*".join(map(re.escape, fragments)))


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((5, 32, 32, 3), "last"),
        ((5, 3, 32, 32), "first"),
        ((5, 1, 28, 28), "first"),
        ((5, 3, 32, 48), "first"),
        ((5, 1, 64, 1), "last"),
        ((5, 3, 3, 3), "last"),
        ((5, 28, 20, 7), "last"),
        ((5, 13, 64, 64), "unclear"),
        ((5, 1, 100, 12), "unclear"),
        ((5, 16, 16, 16), "unclear"),
        ((5, 28, 28), "last"),
    ],
)
def test_where_channels_are(shape, order):
    assert channel_order(shape) == order


def test_channels_first_are_moved_last_and_that_is_said():
    with _said("the data: x_train and x_test are of shape (6, 3, 12, 12), with channels first"):
        found = _data_set(np.moveaxis(BYTES, -1, 1))
    assert np.array_equal(found.x_train, _data_set().x_train)


def test_unclear_channels_are_taken_as_last_and_that_is_said():
    images = RNG.random((6, 7, 12, 12), np.float32)
    with _said("taken as 7 x 12 pixels with 12 channels", "transpose(0, 2, 3, 1)"):
        assert _data_set(images).x_train.shape == (6, 7, 12, 12)


def test_rows_of_numbers():
    rows = BYTES.reshape(6, -1)
    assert _data_set(rows).x_train.shape == (6, 1, 432, 1)


def test_float_pixels_up_to_255_beside_bytes_are_on_their_scale():
    plain = _data_set()
    floats = BYTES.astype(np.float64)
    with _said("x_test is floating point from 0 to 255 beside uint8 in x_train"):
        found = _data_set(x_test=floats[:3])
    assert np.array_equal(found.x_test, plain.x_test)
    with _said("x_train is floating point"):
        found = _data_set(floats, x_test=BYTES[:3])
    assert np.array_equal(found.x_train, plain.x_train)
    assert np.array_equal(_data_set(x_test=floats[:3] / 255).x_test, plain.x_test)


def test_images_on_two_scales_are_refused():
    standardised = (BYTES - 128.0) / 64
    with pytest.raises(UserError, match=r"x_test is floating point from -2 to .*; give both on"):
        _data_set(x_test=standardised)
    with pytest.raises(UserError, match="x_train goes up to 255, x_test only up to 1; divide x_tr"):
        _data_set(BYTES.astype(np.float32), x_test=BYTES[:3] / np.float32(255))
    assert _data_set(standardised, x_test=standardised[:3] / 100).x_test.max() < 1


WORDS = np.array(["cat", "dog", "ant", "cat", "dog", "ant"])


@pytest.mark.parametrize(
    ("labels", "classes", "names", "said"),
    [
        (LABELS, LABELS, ("0", "1", "2"), None),
        (LABELS[:, None], LABELS, ("0", "1", "2"), None),
        (WORDS, [1, 2, 0, 1, 2, 0], ("ant", "cat", "dog"), None),
        (WORDS.astype("S3"), [1, 2, 0, 1, 2, 0], ("ant", "cat", "dog"), None),
        (LABELS > 0, [0, 1, 1, 0, 1, 1], ("False", "True"), None),
        (np.eye(3, dtype=int)[LABELS], LABELS, ("0", "1", "2"), None),
        (np.eye(3, dtype=bool)[LABELS], LABELS, ("0", "1", "2"), None),
        (np.eye(3)[LABELS], LABELS, ("0", "1", "2"), "y_train is one-hot"),
    ],
)
def test_labels_that_are_classes(labels, classes, names, said):
    with _said(said) if said else contextlib.nullcontext():
        found = _data_set(y_train=labels)
    assert np.array_equal(found.y_train, classes)
    assert found.class_names == names


def test_class_names_give_strings_their_order():
    names = np.array(["dog", "cat", "ant"])
    found = _data_set(y_train=WORDS, class_names=names)
    assert np.array_equal(found.y_train, [1, 0, 2, 1, 0, 2])
    assert found.class_names == ("dog", "cat", "ant")
    with pytest.raises(UserError, match="holds the label 'ant', expected one of class_names: dog"):
        _data_set(y_train=WORDS, class_names=names[:2])


def test_whole_floats_are_targets_and_that_is_said():
    with _said("y_train is float64, so this is a regression", "y_train.astype(int)"):
        found = _data_set(y_train=LABELS.astype(float))
    assert not found.has_classes
    with _said("y_train is float64, so this is a regression", "(y_train > 0).astype(int)"):
        _data_set(y_train=np.where(LABELS > 0, 1.0, -1.0))
    assert not _data_set(y_train=LABELS + 0.5).has_classes
    assert not _data_set(y_train=np.eye(3)[LABELS] - 1 / 3).has_classes


@pytest.mark.parametrize("labels", [np.repeat([0, 1, 2], [50, 30, 20]), np.repeat(WORDS, 20)])
def test_a_split_has_the_same_share_of_each_class(labels):
    train, test = split_rows(labels, 0.2, 3)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    assert len(test) == round(0.2 * len(labels))
    for name, count in zip(*np.unique(labels, return_counts=True), strict=True):
        assert abs((labels[test] == name).sum() - 0.2 * count) < 1
    assert np.array_equal(split_rows(labels, 0.2, 3)[1], test)
    assert not np.array_equal(split_rows(labels, 0.2, 4)[1], test)


def test_a_split_by_number_and_of_targets():
    assert len(split_rows(np.repeat([0, 1, 2], [50, 30, 20]), 7, 0)[1]) == 7
    assert len(split_rows(RNG.normal(size=(50, 2)), 0.1, 0)[1]) == 5
    train, _ = split_rows(np.array([0, 0, 0, 0, 1]), 0.8, 0)
    assert set(np.array([0, 0, 0, 0, 1])[train]) == {0, 1}
    for size in (0, 5, 0.01):
        with pytest.raises(UserError, match=r"test_size is .*, but there are 5 images"):
            split_rows(LABELS[:5], size, 0)
