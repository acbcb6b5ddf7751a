"""CIFAR-10 and CIFAR-100 from the binary or Python layout of the published archives.

The layouts are described at https://www.cs.toronto.edu/~kriz/cifar.html. An image is 3072 bytes:
red, green and blue planes of 32x32.
"""

import dataclasses
import pathlib

import numpy as np

from kipper.common.datasets.cifar_pickle import read_pickle
from kipper.common.datasets.dataset import Dataset, RawSplit, assemble, numbered_names, unit_pixels
from kipper.common.datasets.reading import expecting, find_folder, read_whole
from kipper.common.errors import UserError
from kipper.common.labels import check_label_range

_IMAGE_BYTES = 3 * 32 * 32
_MOST_BYTES_OF_NAMES = 2**16


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The files of one of the published archives.

    Attributes:
        pickled: whether this is the Python layout.
        folder: the archive's own folder.
        label_bytes: bytes before an image's pixels, of which the last is its label (binary layout).
        label_key, names_key: entries of a batch and of `names` (Python layout).
    """

    pickled: bool
    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    label_bytes: int = 0
    label_key: str = ""
    names_key: str = ""


_CIFAR10_LAYOUTS = (
    _Layout(
        pickled=False,
        folder="cifar-10-batches-bin",
        train=tuple(f"data_batch_{batch}.bin" for batch in range(1, 6)),
        test="test_batch.bin",
        names="batches.meta.txt",
        label_bytes=1,
    ),
    _Layout(
        pickled=True,
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{batch}" for batch in range(1, 6)),
        test="test_batch",
        names="batches.meta",
        label_key="labels",
        names_key="label_names",
    ),
)
_CIFAR100_LAYOUTS = (
    _Layout(
        pickled=False,
        folder="cifar-100-binary",
        train=("train.bin",),
        test="test.bin",
        names="fine_label_names.txt",
        label_bytes=2,
    ),
    _Layout(
        pickled=True,
        folder="cifar-100-python",
        train=("train",),
        test="test",
        names="meta",
        label_key="fine_labels",
        names_key="fine_label_names",
    ),
)


def load_cifar10(data_dir: pathlib.Path) -> Dataset:
    """CIFAR-10, 32x32x3, from `data_dir`, its subfolder cifar10, or the archive's own folder.

    Classes are numbered if the file with their names is missing.
    """
    return _load("cifar10", data_dir, _CIFAR10_LAYOUTS, num_classes=10)


def load_cifar100(data_dir: pathlib.Path) -> Dataset:
    """CIFAR-100 with its 100 fine labels, 32x32x3, from folders like those of `load_cifar10`."""
    return _load("cifar100", data_dir, _CIFAR100_LAYOUTS, num_classes=100)


def _load(
    name: str, data_dir: pathlib.Path, layouts: tuple[_Layout, ...], num_classes: int
) -> Dataset:
    archive_folders = [layout.folder for layout in layouts]
    subfolders = [name, *(f"{name}/{folder}" for folder in archive_folders), *archive_folders]
    folder = find_folder(name, data_dir, subfolders, [layout.train[0] for layout in layouts])
    layout = next(layout for layout in layouts if (folder / layout.train[0]).is_file())
    train = _read_split([folder / batch for batch in layout.train], layout, num_classes)
    test = _read_split([folder / layout.test], layout, num_classes)
    return assemble(name, train, test, _read_names(folder / layout.names, layout, num_classes))


def _read_split(paths: list[pathlib.Path], layout: _Layout, num_classes: int) -> RawSplit:
    read = _read_pickled_batch if layout.pickled else _read_binary_batch
    batches = [read(path, layout) for path in paths]
    for path, (_, labels) in zip(paths, batches, strict=True):
        check_label_range(labels, num_classes, f"{path}: the labels")
    planes = np.concatenate([pixels for pixels, _ in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([labels for _, labels in batches])
    source = str(paths[0] if len(paths) == 1 else paths[0].parent)
    return RawSplit(unit_pixels(planes.transpose(0, 2, 3, 1)), labels, source)


def _read_binary_batch(path: pathlib.Path, layout: _Layout) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (N, 3072) and labels uint8 (N,)."""
    record_size = layout.label_bytes + _IMAGE_BYTES
    with expecting(path, "a CIFAR batch"):
        raw = np.fromfile(path, np.uint8)
    if raw.size == 0 or raw.size % record_size:
        raise UserError(
            f"{path} holds {raw.size} bytes, expected one or more records of {record_size} bytes"
        )
    records = raw.reshape(-1, record_size)
    return records[:, layout.label_bytes :], records[:, layout.label_bytes - 1]


def _read_pickled_batch(path: pathlib.Path, layout: _Layout) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (N, 3072) and labels int64 (N,)."""
    batch = read_pickle(path, required=("data", layout.label_key))
    pixels, labels = batch["data"], batch[layout.label_key]
    if isinstance(labels, list | tuple):
        # Not np.asarray of just anything: a list of lists of lists … would grow without bound.
        if not all(type(label) is int for label in labels):
            raise UserError(f"{path} holds labels of other types, expected integers")
        with expecting(path, "a CIFAR batch"):
            labels = np.array(labels, np.int64)
    if not (isinstance(pixels, np.ndarray) and isinstance(labels, np.ndarray)):
        raise UserError(f"{path} holds pixels or labels that are no arrays, expected arrays")
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _IMAGE_BYTES:
        raise UserError(
            f"{path} holds {pixels.dtype} pixels of shape {pixels.shape}, "
            f"expected uint8 (images, {_IMAGE_BYTES})"
        )
    if labels.dtype.kind not in "iu" or labels.shape != (len(pixels),):
        raise UserError(
            f"{path} holds {labels.dtype} labels of shape {labels.shape}, "
            f"expected {len(pixels)} integers"
        )
    return pixels, labels


def _read_names(path: pathlib.Path, layout: _Layout, num_classes: int) -> tuple[str, ...]:
    if not path.is_file():
        return numbered_names(num_classes)
    with expecting(path, "the names of the classes"):
        if layout.pickled:
            names = read_pickle(path, (layout.names_key,))[layout.names_key]
        else:
            names = read_whole(path, _MOST_BYTES_OF_NAMES).decode().split()
        if not isinstance(names, list | tuple):
            raise ValueError(f"{layout.names_key} is a {type(names).__name__}, not a list")
        if len(names) != num_classes:
            raise UserError(f"{path} holds {len(names)} names of classes, expected {num_classes}")
        return tuple(map(_text, names))


def _text(name: object) -> str:
    if not isinstance(name, str | bytes) or len(name) > _MOST_BYTES_OF_NAMES:
        raise ValueError("a name is not a short text")
    return name.decode() if isinstance(name, bytes) else name
