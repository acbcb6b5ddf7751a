"""The images that KIP starts from: natural images, noise, and natural images with noisy pixels."""

import numpy as np
import pytest

from kipper.common.datasets import Dataset
from kipper.common.settings import DistillSettings
from kipper.server.algorithms.kip import Kip
from kipper.server.experiment import Experiment, prepare
from kipper.server.initial_images import frozen_pixels, initial_images

PIXELS = 12 * 12


def experiment_of(preprocess: str = "standard") -> Experiment:
    """60 colour images, 12x12, of two classes; neighbouring pixels and channels are alike."""
    rng = np.random.default_rng(0)
    images = rng.random((60, 12, 12, 3)).cumsum(axis=1).cumsum(axis=3).astype(np.float32)
    labels = np.arange(60) % 2
    dataset = Dataset("patches", images, labels, images[:4], labels[:4], ("a", "b"))
    return prepare(settings(preprocess=preprocess), dataset)


def settings(**changes: object) -> DistillSettings:
    values = {"dataset": "npz:x.npz", "support_size": 20, **changes}
    return DistillSettings(**values)


def test_natural_images_are_used_unchanged() -> None:
    experiment = experiment_of()
    images = initial_images(experiment, Kip(settings()))
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, experiment.support)
    assert frozen_pixels(experiment, settings()) is None
    assert Kip(settings()).images_start_natural
    assert initial_images(experiment, Kip(settings(kernel_dtype="float64"))).dtype == np.float64


@pytest.mark.parametrize("preprocess", ["standard", "zca"])
def test_noise_has_the_mean_and_deviation_of_the_target_images(preprocess: str) -> None:
    experiment, noisy = experiment_of(preprocess), settings(support_init="noise")
    images, target = initial_images(experiment, Kip(noisy)), experiment.target.images
    assert images.shape == experiment.support.shape
    for channel in range(3):
        noise, natural = images[..., channel], target[..., channel]
        assert abs(noise.mean() - natural.mean()) < 0.1 * natural.std()
        assert noise.std() == pytest.approx(natural.std(), rel=0.05)
    assert abs(np.corrcoef(images[..., 0].ravel(), images[..., 1].ravel())[0, 1]) < 0.1
    assert not Kip(noisy).images_start_natural


@pytest.mark.parametrize(("share", "count"), [(0.9, 130), (0.5, 72), (0.001, 0)])
def test_frozen_pixels_are_noise_and_the_others_are_natural(share: float, count: int) -> None:
    experiment, corrupted = experiment_of(), settings(freeze_pixels=share)
    frozen = frozen_pixels(experiment, corrupted)
    assert frozen is not None
    assert frozen.shape == (20, 12, 12, 1)
    assert (frozen.sum((1, 2, 3)) == count).all()
    images = initial_images(experiment, Kip(corrupted))
    noise = initial_images(experiment, Kip(settings(support_init="noise")))
    everywhere = np.broadcast_to(frozen, images.shape)
    np.testing.assert_array_equal(images[everywhere], noise[everywhere])
    np.testing.assert_array_equal(images[~everywhere], experiment.support[~everywhere])
    if count:
        assert len({mask.tobytes() for mask in frozen}) == 20
        expected = 20 * count / PIXELS
        assert np.abs(frozen.sum(0) - expected).max() < 5 * np.sqrt(expected)


def test_images_of_noise_may_have_frozen_pixels() -> None:
    experiment, noisy = experiment_of(), settings(support_init="noise", freeze_pixels=0.5)
    images = initial_images(experiment, Kip(noisy))
    np.testing.assert_array_equal(
        images, initial_images(experiment, Kip(settings(support_init="noise")))
    )
    np.testing.assert_array_equal(
        frozen_pixels(experiment, noisy), frozen_pixels(experiment, settings(freeze_pixels=0.5))
    )


def test_noise_and_mask_are_functions_of_the_seed() -> None:
    experiment = experiment_of()
    drawn = {}
    for seed in (0, 1, 0):
        corrupted = settings(freeze_pixels=0.5, seed=seed)
        frozen = frozen_pixels(experiment, corrupted)
        assert frozen is not None
        noise = initial_images(experiment, Kip(settings(support_init="noise", seed=seed)))
        drawn.setdefault(seed, []).append((frozen.tobytes(), noise.tobytes()))
    assert drawn[0][0] == drawn[0][1]
    assert drawn[0][0][0] != drawn[1][0][0]
    assert drawn[0][0][1] != drawn[1][0][1]
