"""MNIST and Fashion-MNIST from their IDX files, plain or gzipped.

The format is described at https://yann.lecun.com/exdb/mnist/: a magic number whose third byte is
the dtype and whose fourth is the number of dimensions, the dimensions as big-endian 32-bit
integers, then the values.
"""

import gzip
import math
import pathlib

import numpy as np

from kipper.common.datasets.dataset import Dataset, RawSplit, assemble, numbered_names, unit_pixels
from kipper.common.datasets.reading import expecting, find_folder
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
    pixels = _read_idx(images_path, num_dims=3)
    if pixels.shape[1:] != (28, 28):
        raise UserError(
            f"{images_path} holds images of shape {pixels.shape[1:]}, expected (28, 28)"
        )
    labels = _read_idx(labels_path, num_dims=1)
    return RawSplit(unit_pixels(pixels[..., None]), labels, f"{images_path} with {labels_path}")


def _plain_or_gzipped(path: pathlib.Path) -> pathlib.Path:
    if path.is_file():
        return path
    gzipped = path.with_name(path.name + ".gz")
    if gzipped.is_file():
        return gzipped
    raise UserError(f"{path} does not exist, expected it or {gzipped.name} beside it")


def _read_idx(path: pathlib.Path, num_dims: int) -> np.ndarray:
    """An IDX file of bytes as uint8 of `num_dims` dimensions."""
    with expecting(path, "an IDX file"):
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    magic = bytes([0, 0, _UNSIGNED_BYTE, num_dims])
    header_size = 4 + 4 * num_dims
    if len(raw) < header_size or raw[:4] != magic:
        raise UserError(
            f"{path} begins with the bytes {raw[:4].hex() or 'of an empty file'}, "
            f"expected {magic.hex()} and {num_dims} dimensions"
        )
    shape = tuple(int(size) for size in np.frombuffer(raw, ">u4", num_dims, offset=4))
    # math.prod, because the product for a corrupt header could overflow in numpy.
    num_values = math.prod(shape)
    if len(raw) - header_size != num_values:
        raise UserError(
            f"{path} holds {len(raw) - header_size} bytes after its header, "
            f"expected {num_values} for the shape {shape}"
        )
    return np.frombuffer(raw, np.uint8, offset=header_size).reshape(shape)
