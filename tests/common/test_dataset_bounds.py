"""Sizes that the headers of data sets declare are bounded before memory is allocated."""

import gzip
import io
import pathlib
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from common_fixtures import npz_arrays, refused, write_cifar10, write_mnist, write_svhn
from PIL import Image
from scipy import io as scipy_io

from kipper.common.array_files import read_npz
from kipper.common.datasets import load_dataset
from kipper.common.datasets.mat import open_mat
from kipper.common.errors import UserError
from kipper.server.distilled_set import load_distilled

BOMB = 2**26  # zeros, which compress to a thousandth
MOST = 2**24


@pytest.fixture
def in_little_memory():
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST


def npy(shape: tuple[int, ...], dtype: str, data: bytes) -> bytes:
    """A .npy file whose header declares this shape and dtype, whatever its data."""
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


def write_npz(path: pathlib.Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def members(**changes: bytes) -> dict[str, bytes]:
    made = {}
    for name, array in npz_arrays().items():
        file = io.BytesIO()
        np.save(file, array)
        made[name] = file.getvalue()
    return {**made, **changes}


def test_a_gzip_is_read_no_further_than_its_header_says(tmp_path, in_little_memory) -> None:
    write_mnist(tmp_path, gzipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    header = b"\0\0\x08\x03" + struct.pack(">3I", 12, 28, 28)
    with gzip.open(path, "wb") as file:
        file.write(header)
        for _ in range(BOMB // 2**20):
            file.write(bytes(2**20))
    refused("mnist", tmp_path, f"{path} holds more than 9408 bytes", "expected 9408")
    path.write_bytes(gzip.compress(header + bytes(9407)))
    refused("mnist", tmp_path, f"{path} holds 9407 bytes", "expected 9408")


def test_an_idx_header_asks_for_no_memory(tmp_path, in_little_memory) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    for count, reason in ((2**32 - 1, "GiB of memory"), (2**20, "holds 784 bytes")):
        path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", count, 28, 28) + bytes(784))
        refused("mnist", tmp_path, str(path), reason)


def test_members_of_an_npz_have_the_size_that_their_header_declares(
    tmp_path, in_little_memory
) -> None:
    path = tmp_path / "own.npz"
    for shape in ((6, 2**20, 2**20), (6, 4, 4), (6, 4, 6), (6, 2**62, 4), (0, 2**62, 2**62)):
        write_npz(path, members(x_train=npy(shape, "|u1", bytes(120))))
        refused(f"npz:{path}", None, str(path), "x_train.npy has 120 bytes of data")
        write_npz(path, {"images": npy(shape, "|u1", bytes(120)), "labels": members()["y_train"]})
        with pytest.raises(UserError, match="120 bytes of data"):
            load_distilled(path)


def test_images_are_not_read_before_their_number_is_known_to_be_that_of_the_labels(
    tmp_path, in_little_memory
) -> None:
    path = tmp_path / "own.npz"
    write_npz(path, members(x_train=npy((BOMB, 1, 1), "|u1", b"")))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members().items():
            with archive.open(f"{name}.npy", "w") as member:
                if name == "x_train":
                    member.write(npy((BOMB, 1, 1), "|u1", b""))
                    for _ in range(BOMB // 2**20):
                        member.write(bytes(2**20))
                else:
                    member.write(content)
    refused(f"npz:{path}", None, f"{BOMB} images and 6 labels")


@pytest.mark.parametrize("dtype", ["|O", [("a", "<i8")]])
def test_objects_and_records_are_refused(tmp_path, dtype) -> None:
    path = tmp_path / "own.npz"
    write_npz(path, members(x_train=npy((6,), dtype, bytes(48))))
    refused(f"npz:{path}", None, "objects or records")


def test_other_compression_is_refused(tmp_path) -> None:
    path = tmp_path / "own.npz"
    write_npz(path, members(), zipfile.ZIP_LZMA)
    refused(f"npz:{path}", None, "DEFLATE")


def test_arrays_of_all_customary_headers_are_read(tmp_path) -> None:
    path = tmp_path / "own.npz"
    arrays = {
        "number": np.float64(0.5),
        "text": np.array("settings"),
        "empty": np.zeros((0, 3)),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
    }
    for save in (np.savez, np.savez_compressed):
        save(path, **arrays)
        found = read_npz(path)
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)
    assert read_npz(path, ("text", "absent")).keys() == {"text"}


def test_a_matlab_variable_is_not_read_before_its_shape_is_known(tmp_path, monkeypatch) -> None:
    write_svhn(tmp_path)
    path = tmp_path / "train_32x32.mat"
    images = np.zeros((32, 32, 3, 2), np.uint8)
    scipy_io.savemat(path, {"X": images, "y": np.zeros((10**5, 1))}, do_compression=True)
    monkeypatch.setattr("kipper.common.datasets.mat._Element._values", None)
    refused("svhn_cropped", tmp_path, f"{path} holds 2 images and 100000 labels")


@pytest.mark.parametrize("labels", [{"a": 1}, np.array(["a", "b"], object), "ab"])
def test_a_matlab_variable_of_another_kind_is_refused(tmp_path, labels) -> None:
    write_svhn(tmp_path)
    path = tmp_path / "test_32x32.mat"
    scipy_io.savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": labels})
    refused("svhn_cropped", tmp_path, str(path), "expected")


def test_a_large_file_is_no_batch_of_cifar(tmp_path, in_little_memory) -> None:
    write_cifar10(tmp_path, pickled=True)
    path = tmp_path / "data_batch_2"
    with open(path, "wb") as file:
        file.truncate(2**31)  # without blocks on disk
    refused("cifar10", tmp_path, f"{path} has 2,147,483,648 bytes")


def image_folder(root: pathlib.Path) -> pathlib.Path:
    """Two classes of two images of 8x8; returns one of the images."""
    for label in "ab":
        (root / label).mkdir(parents=True)
        for number in range(2):
            Image.new("L", (8, 8)).save(root / label / f"{number}.png")
    return root / "a" / "1.png"


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def test_no_image_starts_ghostscript(tmp_path, monkeypatch) -> None:
    path = image_folder(tmp_path / "images")
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\nexit 1\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path.write_bytes(EPS)
    refused(f"folder:{tmp_path / 'images'}", None, f"{path} cannot be read", "none of PNG, JPEG")
    assert not (tmp_path / "started").exists()


def test_an_image_is_not_decoded_if_it_has_too_many_pixels(tmp_path, in_little_memory) -> None:
    path = image_folder(tmp_path)
    size = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(size))
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\r" + size + crc + b"\0\0\0\x01IDAT")
    refused(f"folder:{tmp_path}", None, str(path), "1600000000 pixels")


@pytest.mark.parametrize("image_format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_of_several_pictures_is_read(tmp_path, image_format) -> None:
    path = image_folder(tmp_path)
    first, second = (Image.new("L", (8, 8), grey) for grey in (255, 0))
    options = {"lossless": True} if image_format == "WEBP" else {}
    first.save(path, image_format, save_all=True, append_images=[second], **options)
    with Image.open(path) as animation:
        assert animation.n_frames == 2
    assert load_dataset(f"folder:{tmp_path}", None).x_train[0].min() == 1


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_matlab_arrays_are_those_that_scipy_reads(tmp_path, compressed, dtype) -> None:
    path = tmp_path / "own.mat"
    pixels = np.random.default_rng(3).integers(0, 256, (3, 4, 3, 5), np.uint8)
    others = {"before": {"a": 1}, "X": pixels, "text": "words", "y": np.arange(5).astype(dtype)}
    scipy_io.savemat(path, others, do_compression=compressed)
    expected, found = scipy_io.loadmat(path), open_mat(path, ("X", "y", "absent"))
    assert found.keys() == {"X", "y"}
    for name, variable in found.items():
        assert variable.shape == expected[name].shape
        assert variable.dtype == expected[name].dtype
        np.testing.assert_array_equal(variable.read(), expected[name], strict=True)
