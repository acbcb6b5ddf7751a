"""Files that a run writes for its report, beside its results."""

import contextlib
from collections.abc import Mapping

import numpy as np
from absl import logging

from kipper.common.files import write_npz
from kipper.common.sealed import read_object, write_object
from kipper.server.distilled_set import Recipe, save_recipe
from kipper.server.experiment import Experiment
from kipper.server.report.environment import describe_environment, with_earlier
from kipper.server.report.nearest import nearest_natural
from kipper.server.workdir import Workdir


def keep_beginning(workdir: Workdir, experiment: Experiment, recipe: Recipe) -> None:
    """Writes natural.npz, preprocessing.npz and environment.json, before the first step."""
    write_npz(workdir.natural, {"images": experiment.support, "targets": experiment.support_labels})
    if not workdir.preprocessing.exists():  # that of a finished run lists its sets
        save_recipe(workdir.preprocessing, recipe)
    environment = describe_environment()
    with contextlib.suppress(OSError, ValueError, TypeError):  # none yet, or damaged
        environment = with_earlier(environment, read_object(workdir.environment))
    write_object(workdir.environment, environment)


def keep_end(
    workdir: Workdir,
    experiment: Experiment,
    images: np.ndarray,
    workers: Mapping[str, Mapping[str, str]],
) -> None:
    """Adds the engines and devices of workers to environment.json, and writes neighbours.npz.

    The latter holds the training image nearest to each of the final `images` (n, h, w, c), unless
    these are natural. Errors are logged as warnings: the results exist already.
    """
    try:
        environment = read_object(workdir.environment)
        write_object(workdir.environment, {**environment, "workers": workers})
        workdir.neighbours.unlink(missing_ok=True)
        if np.array_equal(images, experiment.support):
            return
        target = experiment.target
        nearest = nearest_natural(images, target.images)
        found = {
            "images": target.images[nearest.rows],
            "targets": target.labels[nearest.rows],
            "cosines": nearest.cosines,
        }
        write_npz(workdir.neighbours, found)
    except (OSError, ValueError, MemoryError) as error:
        logging.warning("The report will be incomplete: %r", error)
