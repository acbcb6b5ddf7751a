"""The data that a user gives: a data set, its name, arrays, or objects of other libraries."""

import dataclasses
import numbers
import os
import pathlib
import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from kipper.common.datasets import (
    PARTS,
    Dataset,
    dataset_of_arrays,
    float_images,
    load_dataset,
    on_scale_of,
    remember,
    split_rows,
)
from kipper.common.errors import UserError
from kipper.common.notices import notice
from kipper.launch.interface.array_likes import image_array
from kipper.launch.interface.labelled import Items, Labelled, labelled_pair, read_labelled

GivenImages: TypeAlias = ArrayLike | Iterable[object]
Given: TypeAlias = Dataset | str | os.PathLike[str] | ArrayLike | Iterable[object] | Items

TEST_SIZE = 0.2
_EXPECTED = (
    "give a data set of kipper.load_data, its name, or x_train, y_train, x_test and y_test, or "
    "images with labels in another form that kipper.load_data takes."
)
# Of what other libraries call the part for testing, the likeliest first.
_TEST_NAMES = ("test", "validation", "valid", "val")

# Name and data_dir of what `load_data` returned: a run reads those again, and its record says them.
_LOADED: "weakref.WeakKeyDictionary[Dataset, tuple[str, str | None]]" = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class GivenData:
    """A data set as the settings of a run name it.

    Attributes:
        name: the setting `dataset`.
        data_dir: the setting of that name.
        held: the arrays, which must be held as long as a run may read them; None for files.
    """

    name: str
    data_dir: str | None = None
    held: Dataset | None = None


@dataclasses.dataclass(frozen=True)
class Asked:
    """The arguments of a call besides the data.

    Attributes:
        data_dir: the folder of a named data set's files.
        test_size: see `load_data`.
        class_names: see `load_data`.
        seed: the seed of the draw of the test images.
    """

    data_dir: str | os.PathLike[str] | None = None
    test_size: float = TEST_SIZE
    class_names: Sequence[str] | None = None
    seed: int = 0


_NOTHING = Asked()


def load_data(
    *data: Given,
    data_dir: str | os.PathLike[str] | None = None,
    test_size: float = TEST_SIZE,
    class_names: Sequence[str] | None = None,
    seed: int = 0,
) -> Dataset:
    """Loads a data set by its name, or makes one of data in memory.

    Args:
        *data: a name: digits, mnist5k, mnist, fashion_mnist, cifar10, cifar100, svhn_cropped,
            npz:FILE or folder:PATH[@SIZE]; data_dir may follow. Or images and labels: training and
            test part, each a pair (images, labels), a data frame, a data set of torch, torchvision,
            TensorFlow or Hugging Face, or a torch loader; the training part alone; images, labels;
            or x_train, y_train, x_test, y_test. Images are (N, height, width[, channels]), channels
            first if that is clear, (N, features), or pictures of Pillow; uint8 is divided by 255,
            floats are used unchanged. Labels are integers from 0, strings, booleans or one-hot
            rows; or floats, (N,) or (N, k), the targets of a regression.
        data_dir: the folder with the original files of mnist, fashion_mnist, cifar10, cifar100 or
            svhn_cropped; nothing is downloaded.
        test_size: if there is no test part, the share of the images, or from 1 on their number,
            that is set apart as one, with the same share of each class.
        class_names: the names of integer classes, or the order of classes that are strings.
        seed: the seed of the draw of the test images.

    Returns:
        The data set: `x_train` and `x_test` are float32 (N, height, width, channels), `y_train` and
        `y_test` classes, int64 (N,) from 0, or targets, float64 (N, k).

    Raises:
        UserError: the name is unknown, a file is missing, corrupt or of unexpected content, or the
            data are of no known kind or do not fit each other.
    """
    given = given_data(data, Asked(data_dir, test_size, class_names, seed))
    if given.held is not None:
        return given.held
    dataset = load_dataset(given.name, given.data_dir)
    _LOADED[dataset] = (given.name, given.data_dir)
    return dataset


def given_data(data: Sequence[Given], asked: Asked = _NOTHING) -> GivenData:
    """The data that positional arguments stand for; see `load_data`.

    Raises:
        UserError: they are something else, or do not fit each other.
    """
    match data:
        case (Dataset() as dataset,):
            if dataset in _LOADED:
                return GivenData(*_LOADED[dataset])
            return GivenData(remember(dataset), None, dataset)
        case (str() as name,):
            return GivenData(name, _folder(asked.data_dir))
        case (str() as name, str() | os.PathLike() as data_dir):
            return GivenData(name, _folder(data_dir))
        case (os.PathLike() as path,):
            kind = "folder" if pathlib.Path(path).is_dir() else "npz"
            return GivenData(f"{kind}:{os.fspath(path)}")
    dataset = _dataset_of(data, asked)
    return GivenData(remember(dataset), None, dataset)


def given_test_set(
    data: Sequence[Given], class_names: Sequence[str], pixel_range: tuple[float, float]
) -> GivenData:
    """A data set to evaluate on: both its test part and its training part are all of the data.

    Args:
        data: images and labels, or one object that holds both.
        class_names: the class names of the distilled set; () for targets or if they are unknown.
        pixel_range: the raw pixel values of black and white there.

    Raises:
        UserError: see `given_data`.
    """
    found = read_labelled(data[0], "test") if len(data) == 1 else None
    if found is None and len(data) == 2:
        found = labelled_pair(data[0], data[1], "test")
    if found is None:
        raise _unknown(data)
    images, said = on_scale_of(found.images, pixel_range, "the data: x_test")
    if said is not None:
        notice(said)
    part = Labelled(images, found.labels)
    dataset = _joined(part, part, class_names)
    return GivenData(remember(dataset), None, dataset)


def given_images(
    images: GivenImages, shape: tuple[int, ...], pixel_range: tuple[float, float]
) -> np.ndarray:
    """Images as float32 (n, h, w, c), in raw pixels, as those of a data set.

    Args:
        images: see `image_array`.
        shape: (h, w, c) of the data set's.
        pixel_range: the raw pixel values of black and white there.

    Raises:
        UserError: they are no images.
    """
    array, said = on_scale_of(image_array(images, "x"), pixel_range, "x")
    height, width, channels = shape
    given = array.shape
    if array.ndim == 2 and shape == (1, given[1], 1):
        array = array[:, None, :, None]
    elif given[1:] == (channels, height, width) != shape:
        array = np.moveaxis(array, 1, -1)
    elif given in (shape, shape[:2]):
        raise UserError(f"x is of shape {given}, that of one image; give x[None].")
    found = float_images(array, "x", "the data")
    if found.ndim != 4:
        raise UserError(f"x is of shape {given}; it must be (n, height, width[, channels]).")
    if said is not None:
        notice(said)
    return found


def _folder(data_dir: str | os.PathLike[str] | None) -> str | None:
    return None if data_dir is None else str(pathlib.Path(data_dir).expanduser())


def _dataset_of(data: Sequence[Given], asked: Asked) -> Dataset:
    """A data set of anything but a name: a training part with or without a test part."""
    match data:
        case (Mapping() as parts,) if all(name in parts for name in PARTS):
            return _dataset_of([parts[name] for name in PARTS], asked)
        case (Mapping() as parts,) if "train" in parts:
            test = next((name for name in _TEST_NAMES if name in parts), None)
            kept = [parts["train"]] if test is None else [parts["train"], parts[test]]
            return _dataset_of(kept, asked)
        case (one,):
            if (found := read_labelled(one, "train")) is not None:
                return _split(found, asked)
            if isinstance(one, list | tuple) and len(one) in (2, 4):
                return _dataset_of(one, asked)
        case (first, second):
            train = read_labelled(first, "train")
            test_part = None if train is None else read_labelled(second, "test")
            if train is not None and test_part is not None:
                return _joined(train, test_part, asked.class_names)
            return _split(labelled_pair(first, second, "train"), asked)
        case (x_train, y_train, x_test, y_test):
            train = labelled_pair(x_train, y_train, "train")
            return _joined(train, labelled_pair(x_test, y_test, "test"), asked.class_names)
    raise _unknown(data)


def _unknown(data: Sequence[object]) -> UserError:
    if len(data) == 1 and hasattr(data[0], "columns"):
        names = [str(name) for name in data[0].columns]
        shown = [*names[:5], "…", names[-1]] if len(names) > 6 else names
        return UserError(
            f"The data have the columns {', '.join(shown)}, of which none is known to hold the "
            "labels; call it label, or give images and labels one after the other."
        )
    if len(data) == 1 and hasattr(data[0], "shape"):
        return UserError(
            f"The data are one array of shape {tuple(data[0].shape)}; give its labels too, as "
            "(images, labels)."
        )
    kinds = ", ".join(type(each).__name__ for each in data) or "nothing"
    return UserError(f"The data are {kinds}; {_EXPECTED}")


def _split(found: Labelled, asked: Asked) -> Dataset:
    """The data set of which a part is set apart for testing."""
    size, seed = asked.test_size, asked.seed
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool) or seed < 0:
        raise UserError(f"seed is {seed!r:.60}; it must be a whole number, 0 or more.")
    is_number = isinstance(size, numbers.Integral) and not isinstance(size, bool)
    is_share = isinstance(size, numbers.Real) and not isinstance(size, bool) and 0 < size < 1
    if not is_number and not is_share:
        raise UserError(
            f"test_size is {size!r:.60}; it must be a share such as 0.2, or a whole number of "
            "images."
        )
    train, test = (
        Labelled(found.images[rows], found.labels[rows], found.class_names)
        for rows in split_rows(found.labels, size, seed)
    )
    return _joined(train, test, asked.class_names)


def _joined(train: Labelled, test: Labelled, class_names: Sequence[str] | None) -> Dataset:
    arrays = {
        "x_train": train.images,
        "y_train": train.labels,
        "x_test": test.images,
        "y_test": test.labels,
    }
    if isinstance(class_names, str) or not isinstance(class_names, Sequence | np.ndarray | None):
        raise UserError(f"class_names is {class_names!r:.60}; it must be a list of names.")
    if class_names is not None and len(class_names):
        arrays["class_names"] = np.array([str(name) for name in class_names])
    elif train.class_names and train.labels.dtype.kind in "iu":
        arrays["class_names"] = np.array(train.class_names)
    return dataset_of_arrays(arrays, "arrays", "the data")
