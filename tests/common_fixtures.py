"""Data set files, written byte by byte for the tests of their loaders."""

import gzip
import os
import pathlib
import pickle
import struct

import numpy as np
import pytest
from scipy import io

from kipper.common.datasets import Dataset, load_dataset
from kipper.common.errors import UserError

RNG = np.random.default_rng(7)


def idx_bytes(array: np.ndarray) -> bytes:
    """`array` (uint8) in the IDX format."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    return header + array.tobytes()


def write_mnist(folder: pathlib.Path, gzipped: bool = False) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, count in (("train", 12), ("t10k", 5)):
        arrays[f"{part}-images-idx3-ubyte"] = RNG.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = RNG.integers(0, 10, count, np.uint8)
    for name, array in arrays.items():
        if gzipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(array)))
        else:
            (folder / name).write_bytes(idx_bytes(array))
    return arrays


def cifar_batch(num_classes: int, count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Planar pixels uint8 (count, 3072) and labels uint8 (count,)."""
    pixels = RNG.integers(0, 256, (count, 3072), np.uint8)
    return pixels, RNG.integers(0, num_classes, count, np.uint8)


def pixel(planes: np.ndarray, row: int, column: int, channel: int) -> np.float32:
    return np.float32(planes[channel * 1024 + row * 32 + column] / 255)


def write_cifar10(folder: pathlib.Path, pickled: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Five training batches and the test batch; returns them in that order."""
    folder.mkdir(parents=True, exist_ok=True)
    batches = [cifar_batch(10) for _ in range(6)]
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    classes = [f"class{i}" for i in range(10)]
    for name, (pixels, labels) in zip(names, batches, strict=True):
        if pickled:
            # Protocol 2 and byte-string keys, as in the published archive.
            batch = {b"data": pixels, b"labels": labels.tolist(), b"batch_label": b"x\xe9"}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        else:
            records = np.concatenate([labels[:, None], pixels], axis=1)
            (folder / f"{name}.bin").write_bytes(records.tobytes())
    if pickled:
        names_entry = {b"label_names": [name.encode() for name in classes]}
        (folder / "batches.meta").write_bytes(pickle.dumps(names_entry, protocol=2))
    else:
        (folder / "batches.meta.txt").write_text("\n".join(classes) + "\n\n")
    return batches


def write_svhn(folder: pathlib.Path) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, count in (("train", 11), ("test", 3)):
        arrays[part] = RNG.integers(0, 256, (32, 32, 3, count), np.uint8)
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
        io.savemat(str(folder / f"{part}_32x32.mat"), {"X": arrays[part], "y": labels})
    return arrays


def npz_arrays() -> dict[str, np.ndarray]:
    return {
        "x_train": RNG.integers(0, 256, (6, 4, 5), np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2], np.uint8),
        "x_test": RNG.integers(0, 256, (3, 4, 5), np.uint8),
        "y_test": np.array([0, 1, 2], np.uint8),
    }


def check_value(dataset: Dataset) -> None:
    for images, labels in (
        (dataset.x_train, dataset.y_train),
        (dataset.x_test, dataset.y_test),
    ):
        assert images.dtype == np.float32
        assert labels.dtype == np.int64
        assert images.flags.c_contiguous
        assert images.ndim == 4
        assert labels.shape == images.shape[:1]


def refused(name: str, data_dir: pathlib.Path | None, *fragments: str) -> None:
    """Checks that the data set is refused in one line that contains all the fragments."""
    with pytest.raises(UserError) as caught:
        load_dataset(name, None if data_dir is None else str(data_dir))
    sentence = str(caught.value)
    assert "\n" not in sentence
    for fragment in fragments:
        assert fragment in sentence


class Malicious:
    """A pickle of this runs a shell command when it is loaded."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)
