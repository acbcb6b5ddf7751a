"""Image data sets, read from files or from installed packages; nothing is downloaded."""

from kipper.common.datasets.dataset import Dataset, dataset_hash
from kipper.common.datasets.registry import DATASET_NAMES, load_dataset
from kipper.common.datasets.subset import limit

__all__ = ["DATASET_NAMES", "Dataset", "dataset_hash", "limit", "load_dataset"]
