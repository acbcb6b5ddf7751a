"""Small versions of the files that the commands of the documents read."""

import pathlib

import numpy as np
from common_fixtures import idx_bytes
from documents import ROOT, snippets
from PIL import Image
from sklearn.datasets import load_digits


def write_files():
    """Writes data sets, a file of hosts, a network and released images to the working directory."""
    rng = np.random.default_rng(0)
    digits = load_digits()
    images, labels = digits.images[:200].astype(np.uint8) * 15, digits.target[:200]
    halves = {"x_train": images[:150], "x_test": images[150:]}
    np.savez("mine.npz", **halves, y_train=labels[:150], y_test=labels[150:])
    ages = rng.normal(size=(200, 2))
    np.savez("ages.npz", **halves, y_train=ages[:150], y_test=ages[150:])
    for part, start in (("train", 0), ("test", 150)):
        for number in range(start, start + 40):
            folder = pathlib.Path("pets") / part / ("cat", "dog")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number]).convert("RGB").resize((40, 36)).save(
                folder / f"{number}.png"
            )
    data = pathlib.Path("data")
    data.mkdir()
    for part, count in (("train", 100), ("t10k", 50)):
        pixels = rng.integers(0, 256, (count, 28, 28), np.uint8)
        (data / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(pixels))
        classes = (np.arange(count) % 10).astype(np.uint8)
        (data / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(classes))
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        pixels = rng.integers(0, 256, (30, 3072), np.uint8)
        classes = (np.arange(30, dtype=np.uint8) % 10)[:, None]
        (data / f"{name}.bin").write_bytes(np.concatenate([classes, pixels], axis=1).tobytes())
    (data / "batches.meta.txt").write_text("".join(f"class{i}\n" for i in range(10)))
    released = {"images": rng.normal(size=(10, 32, 32, 3)), "labels": np.eye(10) - 0.1}
    np.savez("ConvNet_ssize10_zca_l_noaug_ckpt1000.npz", **released)
    pathlib.Path("rfad").mkdir()
    first = released | {"images": np.moveaxis(released["images"], -1, 1)}
    np.savez("rfad/best.npz", **first, k=np.array(1.5), jit=np.array(0.005))
    pathlib.Path("hosts.txt").write_text("localhost slots=8\n")
    (network,) = [code for _, code in snippets(ROOT / "docs" / "own_data.md")]
    pathlib.Path("nets.py").write_text(network)
