"""The Python interface."""

import numpy as np
import pytest

import kipper
from kipper.common.errors import UserError


def _two_blobs(n, seed):
    """Images bright on the left or on the right, with noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = 0.5 * rng.random((n, 6, 6, 1))
    images[labels == 0, :, :3] += 0.3
    images[labels == 1, :, 3:] += 0.3
    return images.astype(np.float32), labels


def test_arrays_in_and_a_result_out(tmp_path):
    train, test = _two_blobs(200, 0), _two_blobs(80, 1)
    result = kipper.distill(
        *train, *test, workdir=tmp_path, support_size=2, steps=10, learn_labels=True
    )
    assert result.images.shape == result.pixels.shape == (2, 6, 6, 1)
    assert result.labels.shape == (2, 2)
    assert result.test_accuracy >= result.natural_accuracy
    assert result.test_accuracy > 0.95
    assert result.summary["steps"] == 10
    assert (result.workdir / "figures" / "distilled.png").exists()
    again = kipper.distill(
        *train, *test, workdir=tmp_path, support_size=2, steps=10, learn_labels=True
    )
    assert np.array_equal(again.images, result.images)


def test_solve_labels_keeps_the_natural_images():
    train, test = _two_blobs(100, 0), _two_blobs(40, 1)
    result = kipper.solve_labels(*train, *test, support_size=4)
    natural = {image.round(4).tobytes() for image in train[0]}
    assert all(image.round(4).tobytes() in natural for image in result.pixels)


def test_an_unknown_setting_is_refused():
    train, test = _two_blobs(20, 0), _two_blobs(20, 1)
    with pytest.raises(UserError, match="Unknown setting 'stepps'; known are"):
        kipper.distill(*train, *test, stepps=3)


def test_wrong_shapes_are_refused():
    images, labels = _two_blobs(20, 0)
    with pytest.raises(UserError, match="there are 20 images and 19 labels"):
        kipper.distill(images, labels, images, labels[1:])
