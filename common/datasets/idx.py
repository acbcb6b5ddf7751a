"""MNIST and Fashion-MNIST from their IDX files, plain or gzipped.

The format is described at https://yann.lecun.com/exdb/mnist/: a magic number whose third byte is
the dtype and whose fourth is the number of dimensions, the dimensions as big-endian 32-bit
integers, then the values.
"""

import gzip
import io
import math
import pathlib
import struct

import numpy as np

from kipper.common.array_files import check_memory
from kipper.common.datasets.dataset import Dataset, RawSplit, assemble, numbered_names, unit_pixels
from kipper.common.datasets.reading import expecting, find_folder, read_at_most
from kipper.common.errors import UserError

_FASHION_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_UNSIGNED_BYTE = 0x08


def load_mnist(data_dir: pathlib.Path) -> Dataset:
    """MNIST, 28x28x1, from `data_dir`/mnist or `data_dir`."""
    return _load("mnist", data_dir, numbered_names(10))


def load_fashion_mnist(data_dir: pathlib.Path) -> Dataset:
    """Fashion-MNIST, 28x28x1, from `data_dir`/fashion_mnist or `data_dir`."""
    return _load("fashion_mnist", data_dir, _FASHION_NAMES)


def _load(name: str, data_dir: pathlib.Path, class_names: tuple[str, ...]) -> Dataset:
    first = "train-images-idx3-ubyte"
    folder = find_folder(name, data_dir, [name], [first, f"{first}.gz"])
    return assemble(name, _read_split(folder, "train"), _read_split(folder, "t10k"), class_names)


def _read_split(folder: pathlib.Path, prefix: str) -> RawSplit:
    images_path = _plain_or_gzipped(folder / f"{prefix}-images-idx3-ubyte")
    labels_path = _plain_or_gzipped(folder / f"{prefix}-labels-idx1-ubyte")
    pixels = _read_idx(images_path, (28, 28))
    labels = _read_idx(labels_path, ())
    return RawSplit(unit_pixels(pixels[..., None]), labels, f"{images_path} with {labels_path}")


def _plain_or_gzipped(path: pathlib.Path) -> pathlib.Path:
    if path.is_file():
        return path
    gzipped = path.with_name(path.name + ".gz")
    if gzipped.is_file():
        return gzipped
    raise UserError(f"{path} does not exist, expected it or {gzipped.name} beside it")


def _read_idx(path: pathlib.Path, item_shape: tuple[int, ...]) -> np.ndarray:
    """An IDX file of bytes as uint8 (N, *item_shape)."""
    num_dims = 1 + len(item_shape)
    magic = bytes([0, 0, _UNSIGNED_BYTE, num_dims])
    with expecting(path, "an IDX file"), _opened(path) as file:
        header = file.read(4 + 4 * num_dims)
        if len(header) < 4 + 4 * num_dims or header[:4] != magic:
            raise UserError(
                f"{path} begins with the bytes {header[:4].hex() or 'of an empty file'}, "
                f"expected {magic.hex()} and {num_dims} dimensions"
            )
        shape = struct.unpack_from(f">{num_dims}I", header, 4)
        if shape[1:] != item_shape:
            raise UserError(f"{path} holds images of shape {shape[1:]}, expected {item_shape}")
        num_values = math.prod(shape)
        check_memory(num_values)
        raw = read_at_most(file.read, num_values + 1)
    if len(raw) != num_values:
        found = f"more than {num_values}" if len(raw) > num_values else len(raw)
        raise UserError(
            f"{path} holds {found} bytes after its header, "
            f"expected {num_values} for the shape {shape}"
        )
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _opened(path: pathlib.Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path) if path.suffix == ".gz" else open(path, "rb")
