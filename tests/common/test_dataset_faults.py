"""Loading data sets: damaged, foreign and malicious files are refused in one sentence."""

import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
from common_fixtures import (
    Malicious,
    idx_bytes,
    npz_arrays,
    refused,
    write_cifar10,
    write_mnist,
    write_svhn,
)
from scipy import io

from kipper.common.datasets import DATASET_NAMES, load_dataset


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


NPZ_FAULTS = {
    "count": ({"y_train": np.arange(5)}, "6 images and 5 labels"),
    "empty": ({"x_test": np.zeros((0, 4, 5)), "y_test": np.zeros(0, int)}, "empty"),
    "flat": ({"x_train": np.zeros((6, 20))}, "(6, 20)"),
    "no pixels": ({"x_train": np.zeros((6, 0, 5))}, "(6, 0, 5, 1)"),
    "unlike": ({"x_test": np.zeros((3, 5, 5))}, "(4, 5, 1)"),
    "integers": ({"x_train": np.zeros((6, 4, 5), int)}, "int64"),
    "objects": ({"x_train": np.array([None] * 6)}, "allow_pickle"),
    "nan": ({"x_train": np.full((6, 4, 5), np.nan)}, "image 0 of x_train and 5 more holds NaN"),
    "overflow": ({"x_test": np.full((3, 4, 5), 1e300)}, "finite"),
    "float labels": ({"y_test": np.zeros(3)}, "expected uint8 as in training"),
    "unlike targets": ({"y_train": np.zeros((6, 2)), "y_test": np.zeros(3)}, "1 targets each"),
    "flat targets": ({"y_train": np.zeros((6, 0)), "y_test": np.zeros((3, 0))}, "(6, 0)"),
    "deep targets": ({"y_train": np.zeros((6, 1, 1))}, "(6, 1, 1)"),
    "nan targets": ({"y_train": np.zeros(6), "y_test": np.full(3, np.nan)}, "NaN or infinite"),
    "named targets": (
        {"y_train": np.zeros(6), "y_test": np.zeros(3), "class_names": np.array(["a"])},
        "class_names but floating-point targets",
    ),
    "wide labels": ({"y_test": np.zeros((3, 2), int)}, "(3, 2)"),
    "negative": ({"y_test": np.array([0, -1, 2])}, "-1"),
    "huge": ({"y_test": np.array([0, 1, 2**63], np.uint64)}, str(2**63)),
    "one class": ({"y_train": np.zeros(6, int), "y_test": np.zeros(3, int)}, "at least 2"),
    "beyond names": ({"class_names": np.array(["a", "b"])}, "class_names has 2 names"),
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
