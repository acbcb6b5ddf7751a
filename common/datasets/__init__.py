"""Image data sets from files and installed packages; nothing is downloaded.

Loaders raise UserError for files that are missing, corrupt or of unexpected content.
"""

from kipper.common.datasets.arrays import PARTS, dataset_of_arrays
from kipper.common.datasets.dataset import Dataset, dataset_hash
from kipper.common.datasets.memory import keep, remember
from kipper.common.datasets.pixels import channels_last, float_images, on_scale_of
from kipper.common.datasets.registry import DATASET_NAMES, load_dataset
from kipper.common.datasets.split import split_rows
from kipper.common.datasets.subset import limit

__all__ = [
    "DATASET_NAMES",
    "PARTS",
    "Dataset",
    "channels_last",
    "dataset_hash",
    "dataset_of_arrays",
    "float_images",
    "keep",
    "limit",
    "load_dataset",
    "on_scale_of",
    "remember",
    "split_rows",
]
