"""Loading data sets: their file formats, written here byte by byte, sound and damaged."""

import dataclasses
import gzip
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import zipfile
from typing import Any

import numpy as np
import pytest
from scipy import io
from sklearn import datasets as sklearn_datasets

from kipper.common.datasets import DATASET_NAMES, Dataset, dataset_hash, load_dataset
from kipper.common.errors import UserError

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"
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
    """The data set must be refused in one line with all the fragments."""
    with pytest.raises(UserError) as caught:
        load_dataset(name, None if data_dir is None else str(data_dir))
    sentence = str(caught.value)
    assert "\n" not in sentence
    for fragment in fragments:
        assert fragment in sentence


def test_digits_are_those_of_scikit_learn() -> None:
    digits = load_dataset("digits", None)
    check_value(digits)
    assert digits.x_train.shape == (1437, 8, 8, 1)
    np.testing.assert_array_equal(np.bincount(digits.y_test), 36)
    source = sklearn_datasets.load_digits()
    expected = sorted((*row, label) for row, label in zip(source.data, source.target, strict=True))
    rows = np.concatenate([digits.x_train, digits.x_test]).reshape(-1, 64) * 16
    labels = np.concatenate([digits.y_train, digits.y_test])
    assert sorted((*row, label) for row, label in zip(rows, labels, strict=True)) == expected
    assert dataset_hash(digits) == dataset_hash(load_dataset("digits", None))


def test_mnist5k_is_balanced() -> None:
    mnist = load_dataset("mnist5k", None)
    check_value(mnist)
    assert mnist.x_train.shape == (4000, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(mnist.y_train), 400)
    np.testing.assert_array_equal(np.bincount(mnist.y_test), 100)
    assert mnist.x_train.max() == 1.0


def test_dataset_hash_sees_every_array() -> None:
    images, labels = np.zeros((2, 1, 1, 1), np.float32), np.array([0, 1])
    dataset = Dataset("a", images, labels, images, labels, ("0", "1"))
    hashes = {dataset_hash(dataset)}
    for field, array in (("x_train", images), ("y_train", labels), ("x_test", images)):
        for changed in (array + 1, array.astype(np.float16), array[:1], array[:, None]):
            replacement: dict[str, Any] = {field: changed}
            hashes.add(dataset_hash(dataclasses.replace(dataset, **replacement)))
    hashes.add(dataset_hash(dataclasses.replace(dataset, y_test=labels[::-1])))
    assert len(hashes) == 14
    assert dataset_hash(dataclasses.replace(dataset, name="b")) in hashes


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("subfolder", [False, True])
def test_idx(tmp_path: pathlib.Path, name: str, gzipped: bool, subfolder: bool) -> None:
    arrays = write_mnist(tmp_path / name if subfolder else tmp_path, gzipped)
    dataset = load_dataset(name, str(tmp_path))
    check_value(dataset)
    expected = (arrays["t10k-images-idx3-ubyte"] / 255.0).astype(np.float32)[..., None]
    np.testing.assert_array_equal(dataset.x_test, expected)
    np.testing.assert_array_equal(dataset.y_train, arrays["train-labels-idx1-ubyte"])
    assert dataset.class_names[9] == ("9" if name == "mnist" else "Ankle boot")


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("folder", [".", "cifar10", "cifar-10-batches-xxx"])
def test_cifar10(tmp_path: pathlib.Path, pickled: bool, folder: str) -> None:
    batches = write_cifar10(tmp_path / folder.replace("xxx", "py" if pickled else "bin"), pickled)
    dataset = load_dataset("cifar10", str(tmp_path))
    check_value(dataset)
    assert dataset.x_train.shape == (20, 32, 32, 3)
    # Image 6 is the third of the second batch.
    assert dataset.x_train[6, 30, 1, 2] == pixel(batches[1][0][2], 30, 1, 2)
    assert dataset.x_test[0, 3, 17, 0] == pixel(batches[5][0][0], 3, 17, 0)
    np.testing.assert_array_equal(dataset.y_train, np.concatenate([b[1] for b in batches[:5]]))
    assert dataset.class_names == tuple(f"class{i}" for i in range(10))


@pytest.mark.parametrize("pickled", [False, True])
def test_cifar100_has_fine_labels(tmp_path: pathlib.Path, pickled: bool) -> None:
    folder = tmp_path / ("cifar-100-python" if pickled else "cifar-100-binary")
    folder.mkdir()
    fine = {}
    for part in ("train", "test"):
        pixels, labels = cifar_batch(100, 30)
        fine[part] = labels
        if pickled:
            batch = {"data": pixels, "fine_labels": list(labels), "coarse_labels": [0] * 30}
            (folder / part).write_bytes(pickle.dumps(batch))
        else:
            coarse = np.zeros((30, 1), np.uint8)
            records = np.concatenate([coarse, labels[:, None], pixels], axis=1)
            (folder / f"{part}.bin").write_bytes(records.tobytes())
    dataset = load_dataset("cifar100", str(tmp_path))
    check_value(dataset)
    np.testing.assert_array_equal(dataset.y_test, fine["test"])
    assert dataset.num_classes == 100


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_pickle_protocol_are_admitted(
    tmp_path: pathlib.Path, protocol: int
) -> None:
    write_cifar10(tmp_path, pickled=True)
    pixels, labels = cifar_batch(10)
    batch = {"data": pixels, "labels": [np.int64(label) for label in labels]}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol))
    dataset = load_dataset("cifar10", str(tmp_path))
    np.testing.assert_array_equal(dataset.y_test, labels)
    assert dataset.x_test[2, 5, 6, 1] == pixel(pixels[2], 5, 6, 1)


class Malicious:
    """Unpickled without care, this runs a shell command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("file_name", ["data_batch_1", "test_batch", "batches.meta"])
def test_malicious_pickle_is_not_run(tmp_path: pathlib.Path, file_name: str, protocol: int) -> None:
    write_cifar10(tmp_path, pickled=True)
    trace = tmp_path / "trace"
    payload = pickle.dumps({"data": Malicious(f"touch '{trace}'")}, protocol)
    pickle.loads(payload)
    assert trace.exists(), "the payload would do nothing anyway"
    trace.unlink()
    (tmp_path / file_name).write_bytes(payload)
    refused("cifar10", tmp_path, f"{tmp_path / file_name} names ", f"{os.system.__module__}.system")
    assert not trace.exists()


def test_svhn(tmp_path: pathlib.Path) -> None:
    arrays = write_svhn(tmp_path / "svhn_cropped")
    dataset = load_dataset("svhn_cropped", str(tmp_path))
    check_value(dataset)
    np.testing.assert_array_equal(dataset.y_train, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1])
    assert dataset.x_train[10, 3, 4, 2] == np.float32(arrays["train"][3, 4, 2, 10] / 255)


def test_npz_bytes_are_scaled_and_relative_to_the_working_directory(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = npz_arrays()
    np.savez_compressed(tmp_path / "own.npz", **arrays, class_names=np.array(["a", "b", "c", "d"]))
    monkeypatch.chdir(tmp_path)
    dataset = load_dataset("npz:own.npz", None)
    check_value(dataset)
    expected = (arrays["x_train"] / 255.0).astype(np.float32)[..., None]
    np.testing.assert_array_equal(dataset.x_train, expected)
    assert dataset.class_names == ("a", "b", "c", "d")


def test_npz_floats_are_kept(tmp_path: pathlib.Path) -> None:
    arrays = npz_arrays()
    arrays["x_train"] = RNG.normal(size=(6, 4, 5, 2)) * 300
    arrays["x_test"] = RNG.normal(size=(3, 4, 5, 2))
    arrays["y_train"] = arrays["y_train"][:, None].astype(np.int32)
    np.savez(tmp_path / "own.npz", **arrays)
    dataset = load_dataset(f"npz:{tmp_path / 'own.npz'}", None)
    check_value(dataset)
    np.testing.assert_array_equal(dataset.x_train, arrays["x_train"].astype(np.float32))
    np.testing.assert_array_equal(dataset.y_train, [0, 1, 2, 0, 1, 2])
    assert dataset.class_names == ("0", "1", "2")


NPZ_FAULTS = {
    "count": ({"y_train": np.arange(5)}, "6 images and 5 labels"),
    "empty": ({"x_test": np.zeros((0, 4, 5)), "y_test": np.zeros(0, int)}, "empty"),
    "flat": ({"x_train": np.zeros((6, 20))}, "(6, 20)"),
    "no pixels": ({"x_train": np.zeros((6, 0, 5))}, "(6, 0, 5, 1)"),
    "unlike": ({"x_test": np.zeros((3, 5, 5))}, "(4, 5, 1)"),
    "integers": ({"x_train": np.zeros((6, 4, 5), int)}, "int64"),
    "objects": ({"x_train": np.array([None] * 6)}, "allow_pickle"),
    "nan": ({"x_train": np.full((6, 4, 5), np.nan)}, "finite"),
    "overflow": ({"x_test": np.full((3, 4, 5), 1e300)}, "finite"),
    "float labels": ({"y_test": np.zeros(3)}, "float64"),
    "wide labels": ({"y_test": np.zeros((3, 2), int)}, "(3, 2)"),
    "negative": ({"y_test": np.array([0, -1, 2])}, "-1"),
    "huge": ({"y_test": np.array([0, 1, 2**63], np.uint64)}, str(2**63)),
    "one class": ({"y_train": np.zeros(6, int), "y_test": np.zeros(3, int)}, "at least 2"),
    "beyond names": ({"class_names": np.array(["a", "b"])}, "0 to 1"),
    "names": ({"class_names": np.arange(3)}, "class_names"),
}


@pytest.mark.parametrize("fault", NPZ_FAULTS)
def test_npz_faults(tmp_path: pathlib.Path, fault: str) -> None:
    changes, fragment = NPZ_FAULTS[fault]
    path = tmp_path / "own.npz"
    np.savez(path, **{**npz_arrays(), **changes})
    refused(f"npz:{path}", None, str(path), fragment, "expected" if fault != "objects" else "")


def test_npz_lacking_an_array(tmp_path: pathlib.Path) -> None:
    arrays = npz_arrays()
    del arrays["y_test"]
    np.savez(tmp_path / "own.npz", **arrays)
    refused(f"npz:{tmp_path / 'own.npz'}", None, "own.npz lacks y_test")


@pytest.mark.parametrize("damage", ["missing", "folder", "text", "npy", "cut", "flipped"])
def test_npz_file_damage(tmp_path: pathlib.Path, damage: str) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **npz_arrays())
    if damage == "missing":
        path.unlink()
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "text":
        path.write_text("no archive")
    elif damage == "npy":
        with open(path, "wb") as file:
            np.save(file, np.zeros(3))
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    else:
        raw = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            raw[archive.getinfo("y_train.npy").header_offset + 160] ^= 0xFF
        path.write_bytes(raw)
    refused(f"npz:{path}", None, str(path), ".npz file")


def write_all(name: str, folder: pathlib.Path) -> None:
    """A sound small copy of one data set in `folder`."""
    if name == "mnist":
        write_mnist(folder)
    elif name == "mnist.gz":
        write_mnist(folder, gzipped=True)
    elif name == "svhn_cropped":
        write_svhn(folder)
    else:
        write_cifar10(folder, pickled=name == "cifar10.py")


DAMAGED = [
    ("mnist", "train-labels-idx1-ubyte"),
    ("mnist", "t10k-images-idx3-ubyte"),
    ("mnist.gz", "t10k-images-idx3-ubyte.gz"),
    ("cifar10.bin", "data_batch_3.bin"),
    ("cifar10.bin", "test_batch.bin"),
    ("cifar10.py", "data_batch_3"),
    ("cifar10.py", "batches.meta"),
    ("svhn_cropped", "test_32x32.mat"),
]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "missing", "folder"])
@pytest.mark.parametrize(("name", "file_name"), DAMAGED)
def test_damaged_file(tmp_path: pathlib.Path, name: str, file_name: str, damage: str) -> None:
    write_all(name, tmp_path)
    path = tmp_path / file_name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("<html>not found</html>")
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
    if file_name == "batches.meta" and damage in ("missing", "folder"):
        dataset = load_dataset("cifar10", str(tmp_path))
        assert dataset.class_names == tuple("0123456789")
    else:
        refused(name.split(".")[0], tmp_path, str(path).removesuffix(".gz"))


@pytest.mark.parametrize("stored", [[], {"data": 3, "labels": [1]}, {"labels": [1]}, {1: 2}])
def test_pickle_of_something_else(tmp_path: pathlib.Path, stored: object) -> None:
    write_cifar10(tmp_path, pickled=True)
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(stored))
    refused("cifar10", tmp_path, str(tmp_path / "data_batch_2"), "expected")


def test_labels_out_of_range(tmp_path: pathlib.Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(idx_bytes(np.array([0, 1, 10, 2, 3], np.uint8)))
    refused("mnist", tmp_path, str(path), "label 10", "0 to 9")

    write_cifar10(tmp_path, pickled=False)
    path = tmp_path / "data_batch_4.bin"
    path.write_bytes(b"\x0b" + path.read_bytes()[1:])
    refused("cifar10", tmp_path, str(path), "label 11", "0 to 9")

    write_svhn(tmp_path)
    path = tmp_path / "test_32x32.mat"
    images = np.zeros((32, 32, 3, 2), np.uint8)
    io.savemat(str(path), {"X": images, "y": np.array([[1], [11]])})
    refused("svhn_cropped", tmp_path, str(path), "1 to 10")


def test_wrong_shapes(tmp_path: pathlib.Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(idx_bytes(np.zeros((12, 27, 28), np.uint8)))
    refused("mnist", tmp_path, str(path), "(27, 28)")
    path.write_bytes(idx_bytes(np.zeros((11, 28, 28), np.uint8)))
    refused("mnist", tmp_path, str(path), "11 images and 12 labels")

    write_svhn(tmp_path)
    path = tmp_path / "train_32x32.mat"
    io.savemat(str(path), {"X": np.zeros((32, 32, 2), np.uint8), "y": np.array([[1], [2]])})
    refused("svhn_cropped", tmp_path, str(path), "(32, 32, 2)")
    io.savemat(str(path), {"X": np.zeros((32, 32, 3, 2))})
    refused("svhn_cropped", tmp_path, str(path), "X and y")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100", "svhn_cropped"])
def test_absent_folder_or_files(tmp_path: pathlib.Path, name: str) -> None:
    refused(name, None, "data_dir", name)
    refused(name, tmp_path / "absent", str(tmp_path / "absent"), name)
    refused(name, tmp_path, str(tmp_path), name, "expected")


@pytest.mark.parametrize("name", ["imagenet", "npz:", ""])
def test_unknown_name_lists_the_known(name: str) -> None:
    refused(name, None, *DATASET_NAMES)


def test_importing_loads_no_heavy_package() -> None:
    heavy = "{'scipy', 'sklearn', 'mlxtend', 'jax', 'pandas'} & set(sys.modules)"
    program = f"import sys, kipper.common.datasets; sys.exit(len({heavy}))"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="the real MNIST files are absent")
def test_real_mnist() -> None:
    mnist = load_dataset("mnist", str(SHARED))
    check_value(mnist)
    assert mnist.x_train.shape == (60000, 28, 28, 1)
    # The published counts of the digits 0 to 9.
    train_counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test_counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    np.testing.assert_array_equal(np.bincount(mnist.y_train), train_counts)
    np.testing.assert_array_equal(np.bincount(mnist.y_test), test_counts)
    # The published mean and standard deviation of the training pixels.
    mean = mnist.x_train.mean(dtype=np.float64)
    assert mean == pytest.approx(0.1307, abs=5e-5)
    variance = np.square(mnist.x_train).mean(dtype=np.float64) - mean**2
    assert np.sqrt(variance) == pytest.approx(0.3081, abs=5e-5)
