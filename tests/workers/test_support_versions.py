"""Support images of the newest versions, as far as they have arrived."""

import numpy as np
import pytest

from kipper.common.errors import WorkerError
from kipper.common.messages import PutSupport
from kipper.workers.row_store import RowsMissing
from kipper.workers.support_versions import SupportVersions

IMAGES = np.random.default_rng(0).normal(size=(6, 2, 2, 1)).astype(np.float32)


class CountingEngine:
    """Features are sums; counts how many images they were asked of."""

    def __init__(self):
        self.images = 0

    def features(self, images):
        self.images += len(images)
        return images.reshape(len(images), -1).sum(1, keepdims=True)


@pytest.fixture
def versions():
    return SupportVersions([CountingEngine()], "float32")


def put(versions, version, start=0, stop=6, total=6, images=IMAGES):
    return versions.put(
        PutSupport(
            version=version,
            step=-1,
            kernel=0,
            total=total,
            start=start,
            images=images[start:stop],
        )
    )


def test_images_arrive_in_pieces_in_any_order(versions):
    for start, stop in ((4, 6), (0, 2), (2, 4), (0, 2)):
        put(versions, 1, start, stop)
    prepared = versions.take(1, np.array([5, 0, 3]))
    assert np.array_equal(prepared.images, IMAGES[[5, 0, 3]])
    assert np.array_equal(prepared.features[:, 0], IMAGES[[5, 0, 3]].reshape(3, -1).sum(1))


def test_features_are_computed_once_for_each_image_that_comes():
    engine = CountingEngine()
    versions = SupportVersions([engine], "float32")
    put(versions, 1)
    for _ in range(5):
        versions.take(1, np.arange(6))
    assert engine.images == 6


def test_images_that_have_not_arrived_are_missing(versions):
    with pytest.raises(RowsMissing, match="Support version 1 is not on this worker"):
        versions.take(1, np.array([0]))
    put(versions, 1, 2, 4)
    assert np.array_equal(versions.take(1, np.array([3])).images, IMAGES[[3]])
    with pytest.raises(RowsMissing, match="Support images of this version"):
        versions.take(1, np.array([3, 4]))


def test_the_newest_two_versions_are_kept_whatever_the_order(versions):
    assert put(versions, 5) == 5
    assert put(versions, 7) == 5
    assert put(versions, 6) == 6
    assert put(versions, 4) == 6  # too late
    for version, kept in ((4, False), (5, False), (6, True), (7, True)):
        if kept:
            assert len(versions.take(version, np.arange(6)).images) == 6
        else:
            with pytest.raises(RowsMissing):
                versions.take(version, np.arange(6))


def test_versions_do_not_mix(versions):
    put(versions, 1)
    put(versions, 2, images=IMAGES + 1)
    assert np.array_equal(versions.take(1, np.arange(6)).images, IMAGES)
    assert np.array_equal(versions.take(2, np.arange(6)).images, IMAGES + 1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": IMAGES.astype(np.float64)}, "are float64, but the kernel is float32"),
        ({"start": 1, "images": IMAGES}, "Support images 1 to 7 lie outside 0 to 6"),
        ({"start": -1, "images": IMAGES[:2]}, "Support images -1 to 1 lie outside 0 to 6"),
        ({"total": -1}, "lie outside 0 to -1"),
        ({"kernel": 1}, "There is no kernel 1; 1 are known"),
        ({"kernel": -1}, "There is no kernel -1"),
        ({"total": 2**50}, "exceed a worker"),
        ({"version": 1, "images": IMAGES[:, :1]}, "do not fit a version of shape"),
        ({"version": 1, "total": 9, "start": 8, "images": IMAGES[:1]}, "do not fit a version"),
    ],
)
def test_images_out_of_place_are_refused_and_change_nothing(versions, changes, sentence):
    put(versions, 1)
    sound = {"version": 2, "step": 0, "kernel": 0, "total": 6, "start": 0, "images": IMAGES}
    with pytest.raises(WorkerError, match=sentence):
        versions.put(PutSupport(**{**sound, **changes}))
    assert np.array_equal(versions.take(1, np.arange(6)).images, IMAGES)


@pytest.mark.parametrize("index", [[6], [-1], [0, 100]])
def test_an_index_outside_the_support_is_refused(versions, index):
    put(versions, 1)
    with pytest.raises(WorkerError, match="outside the support of 6 images") as caught:
        versions.take(1, np.array(index))
    assert not isinstance(caught.value, RowsMissing)
