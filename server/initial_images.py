"""The images that KIP starts from: natural images, noise, or natural images with noisy pixels.

Source: arXiv 2011.00050, which replaces up to 90 % of the pixels of each image by noise and learns
the others (docs/kip.md).
"""

import numpy as np

from kipper.common.preprocessing import channel_statistics
from kipper.common.settings import DistillSettings
from kipper.server import sampling
from kipper.server.algorithms.kip import Kip
from kipper.server.experiment import Experiment


def initial_images(experiment: Experiment, algorithm: Kip) -> np.ndarray:
    """Support images (n, h, w, c) before the first step, preprocessed, in the kernel's dtype.

    Noise is normal and independent. Each channel has the mean and standard deviation of the
    preprocessed target images: 0 and 1 under standardisation.
    """
    settings, support = algorithm.settings, experiment.support
    if algorithm.images_start_natural:
        return support.astype(settings.kernel_dtype)
    mean, std = channel_statistics(experiment.target.images)
    noise = mean + std * sampling.noise(support.shape, settings.seed)
    frozen = frozen_pixels(experiment, settings)
    if settings.support_init == "natural" and frozen is not None:
        noise = np.where(frozen, noise, support)
    return noise.astype(settings.kernel_dtype)


def frozen_pixels(experiment: Experiment, settings: DistillSettings) -> np.ndarray | None:
    """Pixels of preprocessed images that are not learned: bool (n, h, w, 1); None if all are."""
    if settings.freeze_pixels == 0:
        return None
    return sampling.frozen_pixels(experiment.support.shape, settings.freeze_pixels, settings.seed)
