"""The images that KIP starts from: natural ones, noise, or natural ones with pixels lost to noise.

Source: arXiv 2011.00050, which corrupts up to 90 % of the pixels of each image and learns the
others (docs/kip.md).
"""

import numpy as np

from kipper.common.preprocessing import channel_statistics
from kipper.common.settings import DistillSettings
from kipper.server import sampling
from kipper.server.algorithms.kip import Kip
from kipper.server.experiment import Experiment


def initial_images(experiment: Experiment, algorithm: Kip) -> np.ndarray:
    """Support images (n, h, w, c) before the first step, preprocessed, in the kernel's dtype.

    Noise is normal and independent, with the mean and the standard deviation that each channel
    has over the preprocessed target images: 0 and 1 under standardisation.
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
    """Pixels that stay as they start, with all channels: bool (n, h, w, 1), or None if all learn.

    Pixels are those of preprocessed images.
    """
    if settings.freeze_pixels == 0:
        return None
    return sampling.frozen_pixels(experiment.support.shape, settings.freeze_pixels, settings.seed)
