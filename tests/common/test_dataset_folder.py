"""Data sets from folders of images: what is read, how it is split, and the error messages."""

import pathlib
import struct
import zlib

import jax
import numpy as np
import pytest
from common_fixtures import check_value, refused
from PIL import Image

from kipper.common.datasets import load_dataset

RNG = np.random.default_rng(0)


def write(path: pathlib.Path, pixels: np.ndarray | None = None, **options: object) -> np.ndarray:
    """Random grey pixels unless others are given; returns them."""
    if pixels is None:
        pixels = RNG.integers(0, 256, (4, 5), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def loaded(root: pathlib.Path, suffix: str = "") -> object:
    dataset = load_dataset(f"folder:{root}{suffix}", None)
    check_value(dataset)
    return dataset


@pytest.fixture
def split(tmp_path: pathlib.Path) -> tuple[pathlib.Path, dict[str, np.ndarray]]:
    """Writes two classes in train and test; returns the pixels by path."""
    names = ["train/cat/b.png", "train/cat/a.PNG", "train/dog/deep/c.png", "train/dog/d.png"]
    pixels = {name: write(tmp_path / name) for name in [*names, "test/cat/e.png", "test/dog/f.png"]}
    (tmp_path / "train/cat/notes.txt").write_text("no image")
    (tmp_path / "train/.hidden").mkdir()
    return tmp_path, pixels


def test_train_and_test_of_each_class_in_the_order_of_paths(split) -> None:
    root, pixels = split
    dataset = loaded(root)
    assert dataset.class_names == ("cat", "dog")
    expected = ["train/cat/a.PNG", "train/cat/b.png", "train/dog/d.png", "train/dog/deep/c.png"]
    for image, name in zip(dataset.x_train, expected, strict=True):
        np.testing.assert_array_equal(image[..., 0], (pixels[name] / 255).astype(np.float32))
    np.testing.assert_array_equal(dataset.y_train, [0, 0, 1, 1])
    np.testing.assert_array_equal(dataset.y_test, [0, 1])
    assert dataset.x_test.shape == (2, 4, 5, 1)


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX"])
def test_hidden_folders_are_left_out_at_any_depth(split, tmp_path, name) -> None:
    before = loaded(tmp_path)
    for folder in (tmp_path / "train", *(tmp_path / "train").iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            (folder / name).mkdir()
            write(folder / name / "copy.png")
    after = loaded(tmp_path)
    assert len(after.x_train) == len(before.x_train)
    assert after.class_names == before.class_names


def test_without_a_split_every_fifth_image_of_a_class_is_for_testing(tmp_path) -> None:
    pixels = {
        name: [write(tmp_path / name / f"{i:02}.png") for i in range(count)]
        for name, count in (("a", 7), ("b", 2))
    }
    dataset = loaded(tmp_path)
    expected = [pixels["a"][0], pixels["a"][5], pixels["b"][0]]
    np.testing.assert_array_equal(np.rint(dataset.x_test[..., 0] * 255), expected)
    np.testing.assert_array_equal(np.bincount(dataset.y_train), [5, 1])
    np.testing.assert_array_equal(dataset.y_test, [0, 0, 1])


def test_colour_anywhere_makes_all_images_rgb(split) -> None:
    root, pixels = split
    colour = write(root / "test/dog/f.png", RNG.integers(0, 256, (4, 5, 3), np.uint8))
    dataset = loaded(root)
    assert dataset.x_train.shape == (4, 4, 5, 3)
    np.testing.assert_array_equal(np.rint(dataset.x_test[1] * 255), colour)
    for channel in range(3):
        grey = np.rint(dataset.x_test[0, ..., channel] * 255)
        np.testing.assert_array_equal(grey, pixels["test/cat/e.png"])


def _one(tmp_path: pathlib.Path, image: Image.Image, **options: object) -> np.ndarray:
    """The image as read from a PNG, (h, w, c)."""
    for name in ("a/1.png", "b/1.png", "a/0.png", "b/0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image.save(tmp_path / name, **options)
    return loaded(tmp_path).x_train[0]


def test_modes(tmp_path) -> None:
    deep = RNG.integers(0, 2**16, (4, 5), np.uint16)
    got = _one(tmp_path, Image.fromarray(deep))
    np.testing.assert_array_equal(got[..., 0], (deep / (2**16 - 1)).astype(np.float32))

    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 0, 51])
    np.testing.assert_allclose(_one(tmp_path, palette), [[[1, 0, 0], [0, 0, 0.2]]], rtol=1e-6)

    clear = np.array([[[10, 20, 30, 255], [10, 20, 30, 0]]], np.uint8)
    got = _one(tmp_path, Image.fromarray(clear))
    np.testing.assert_array_equal(np.rint(got * 255), [[[10, 20, 30], [255, 255, 255]]])
    grey = Image.fromarray(clear).convert("LA")
    assert _one(tmp_path, grey).shape == (1, 2, 1)
    np.testing.assert_array_equal(_one(tmp_path, Image.new("1", (2, 1), 1)), [[[1], [1]]])


def test_images_are_turned_as_their_camera_was(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees clockwise for display
    pixels = RNG.integers(0, 256, (2, 3), np.uint8)
    got = _one(tmp_path, Image.fromarray(pixels), exif=exif)
    np.testing.assert_array_equal(np.rint(got[..., 0] * 255), np.rot90(pixels, -1))


def test_a_size_crops_to_the_middle_and_resizes(tmp_path) -> None:
    pixels = np.cumsum(RNG.integers(0, 2, (12, 18, 3)), axis=1).astype(np.uint8) * 12
    for name, turned in (("a", pixels), ("b", pixels[:, ::-1])):
        for i in range(2):
            write(tmp_path / name / f"{i}.png", turned)
    write(tmp_path / "b/2.png", pixels[:, :13])
    got = loaded(tmp_path, "@6").x_train[0]
    square = pixels[:, 3:15] / 255
    expected = jax.image.resize(square, (6, 6, 3), "bilinear", antialias=True)
    # Resampling mixes some of the cropped pixels into those at the sides.
    np.testing.assert_allclose(got[:, 1:-1], expected[:, 1:-1], atol=1.01 / 255)
    np.testing.assert_allclose(got, expected, atol=4 / 255)
    assert loaded(tmp_path, "@4").x_test.shape == (2, 4, 4, 3)


def test_a_path_may_hold_an_at_sign(split) -> None:
    root, _ = split
    root.rename(root.with_name("me@home"))
    assert loaded(root.with_name("me@home")).x_train.shape == (4, 4, 5, 1)


def _bomb() -> bytes:
    """The first bytes of a PNG of 20000 x 20000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(9)))


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "bomb", "floats"])
def test_damaged_files(split, damage: str) -> None:
    root, _ = split
    path = root / "train/dog/d.png"
    whole = path.read_bytes()
    path.write_bytes(
        {"cut": whole[:-25], "empty": b"", "text": b"<html>", "bomb": _bomb()}.get(damage, whole)
    )
    if damage == "floats":
        path = path.with_suffix(".tiff")
        write(path, np.zeros((4, 5), np.float32))
    refused(f"folder:{root}", None, f"{path} cannot be read as an image: ")


def test_mistakes_of_layout(split) -> None:
    root, _ = split
    refused(f"folder:{root / 'absent'}", None, f"{root / 'absent'} is not a folder")
    refused("folder:", None, "folder:PATH")
    write(root / "train/dog/z.png", np.zeros((3, 7), np.uint8))
    sentence = f"{root / 'train/dog/z.png'} is 7 x 3 pixels and {root / 'train/cat/a.PNG'} 5 x 4"
    refused(f"folder:{root}", None, sentence, "folder:PATH@4")
    (root / "train/dog/z.png").unlink()

    (root / "train/owl").mkdir()
    refused(f"folder:{root}", None, f"{root / 'train/owl'} holds no images", ".png")
    write(root / "train/owl/1.png")
    refused(f"folder:{root}", None, f"{root / 'test'} lacks the class 'owl'", str(root / "train"))
    write(root / "test/owl/1.png")
    write(root / "test/rat/1.png")
    refused(f"folder:{root}", None, f"{root / 'train'} lacks the class 'rat'", str(root / "test"))
    (root / "test").rename(root / "val")
    refused(f"folder:{root}", None, f"{root} holds train but no test, expected both")


def test_too_few_of_something(tmp_path) -> None:
    refused(f"folder:{tmp_path}", None, f"{tmp_path} holds no folders, expected one of images")
    write(tmp_path / "a/1.png")
    refused(f"folder:{tmp_path}", None, f"{tmp_path / 'a'} holds a single image")
    write(tmp_path / "a/2.png")
    refused(f"folder:{tmp_path}", None, "the number of classes is 1, expected at least 2")
