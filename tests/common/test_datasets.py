"""Loading data sets: valid files of every format, written here byte by byte."""

import dataclasses
import pathlib
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from common_fixtures import (
    RNG,
    check_value,
    cifar_batch,
    npz_arrays,
    pixel,
    write_cifar10,
    write_mnist,
    write_svhn,
)
from sklearn import datasets as sklearn_datasets

from kipper.common.datasets import Dataset, dataset_hash, limit, load_dataset

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"


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


@pytest.mark.parametrize("width", [None, 2])
def test_npz_floating_labels_are_targets(tmp_path: pathlib.Path, width: int | None) -> None:
    arrays = npz_arrays()
    for part, count in (("train", 6), ("test", 3)):
        shape = count if width is None else (count, width)
        arrays[f"y_{part}"] = RNG.normal(size=shape).astype(np.float32)
    np.savez(tmp_path / "own.npz", **arrays)
    dataset = load_dataset(f"npz:{tmp_path / 'own.npz'}", None)
    assert not dataset.has_classes
    assert dataset.class_names == ()
    assert dataset.num_outputs == (width or 1)
    assert dataset.y_train.dtype == np.float64
    np.testing.assert_array_equal(dataset.y_test, arrays["y_test"].reshape(3, -1))
    limited = limit(dataset, 4, 2)
    assert limited.y_train.shape == (4, width or 1)
    (rows,) = np.nonzero((dataset.x_train[:, None] == limited.x_train).all((2, 3, 4)).any(1))
    np.testing.assert_array_equal(limited.y_train, dataset.y_train[rows])


def test_importing_loads_no_heavy_package() -> None:
    heavy = "{'scipy', 'PIL', 'sklearn', 'mlxtend', 'jax', 'pandas'} & set(sys.modules)"
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


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        ([0.2, 0.9], (0, 1)),
        ([0, 1], (0, 1)),
        ([-0.2, 0.9], (-1, 1)),
        ([0, 200], (0, 255)),
        ([-3, 2], (-3, 2)),
        ([7, 300], (7, 300)),
    ],
)
def test_black_and_white_are_those_of_the_customary_range(
    pixels: list[float], expected: tuple[float, float]
) -> None:
    images = np.array(pixels, np.float32).reshape(-1, 1, 1, 1)
    labels = np.arange(2)
    assert Dataset("own", images, labels, images, labels, ("a", "b")).pixel_range == expected
