"""Images with labels in one object: pairs, tables, data sets and loaders of other libraries.

Libraries are known by what their objects can do, so none is imported.
"""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Protocol, runtime_checkable

import numpy as np

from kipper.common.datasets import Dataset
from kipper.common.errors import UserError
from kipper.launch.interface.array_likes import image_array, is_picture, label_array

# Names of columns in tables and data sets, the likeliest first.
_IMAGES = ("image", "images", "img", "pixels", "pixel_values", "x", "data")
_LABELS = ("label", "labels", "target", "targets", "class", "y", "fine_label")
# Samplers of torch by which a loader yields its data set's items each once.
_ALL_ONCE = ("SequentialSampler", "RandomSampler")


@runtime_checkable
class Items(Protocol):
    """Items by number, as of a data set of torch or Hugging Face."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


@runtime_checkable
class _Loader(Protocol):
    """A loader of torch."""

    dataset: object
    sampler: object
    collate_fn: object
    batch_size: object

    def __iter__(self) -> Iterator[object]: ...


@runtime_checkable
class _Table(Protocol):
    """A data frame of pandas or polars."""

    @property
    def columns(self) -> Iterable[str]: ...

    @property
    def dtypes(self) -> object: ...

    def __getitem__(self, key: object, /) -> object: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Labelled:
    """Images with labels.

    Attributes:
        images: see `image_array`.
        labels: see `label_array`.
        class_names: the class names of integer labels; () if they are unknown.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] = ()


def labelled_pair(images: object, labels: object, part: str) -> Labelled:
    """Images and labels; `part`, as train, is for errors.

    Raises:
        UserError: see `image_array` and `label_array`; or their numbers differ.
    """
    found = Labelled(image_array(images, f"x_{part}"), label_array(labels, f"y_{part}"))
    counts = [len(array) if array.ndim else 1 for array in (found.images, found.labels)]
    if counts[0] != counts[1]:
        raise UserError(
            f"the {part} data: there are {counts[0]} images and {counts[1]} labels, expected equal "
            "numbers"
        )
    return found


def read_labelled(data: object, part: str) -> Labelled | None:
    """The images and labels of an object that holds both; None if it does not.

    Args:
        data: a pair (images, labels); a data frame or mapping with a column of labels; a data set
            of torch, torchvision or Hugging Face; a loader of torch; or (image, label) pairs.
        part: the name of the part of the data, such as train, for errors.

    Raises:
        UserError: the images or labels cannot be used.
    """
    if isinstance(data, str | bytes | os.PathLike | Dataset) or is_picture(data):
        return None
    if isinstance(data, list | tuple) and _is_pair(data):
        return labelled_pair(data[0], data[1], part)
    if isinstance(data, _Loader):
        return _of_loader(data, part)
    if isinstance(data, Mapping):
        return _of_mapping(data, part)
    if isinstance(data, _Table):
        return _of_table(data, part)
    is_array = hasattr(data, "shape") and not _features(data)  # Hugging Face's have a shape too
    if not is_array and isinstance(data, Items | Iterable):
        return _of_items(data, part)
    return None


def _is_pair(data: Sequence[object]) -> bool:
    """Whether these are (images, labels), and not two images."""
    if len(data) != 2 or isinstance(data[0], str | bytes | Mapping):
        return False
    images, labels = data
    if not isinstance(images, Sized) or not isinstance(labels, Sized):
        return False
    if isinstance(images, tuple):
        return False
    if len(images) != len(labels):  # a mistake, if they are images and labels at all
        return hasattr(images, "shape") and _depth(images) > _depth(labels)
    return isinstance(data, tuple) or _depth(labels) == 1 or _depth(images) > _depth(labels)


def _depth(values: object) -> int:
    """The number of axes of an array or of nested lists."""
    if isinstance(values, list | tuple):
        return 1 + (_depth(values[0]) if values else 0)
    if hasattr(values, "shape"):
        return len(values.shape)
    return 1 if isinstance(values, Sized) else 0


def _of_loader(loader: _Loader, part: str) -> Labelled | None:
    collates = getattr(loader.collate_fn, "__name__", "") == "default_collate"
    if type(loader.sampler).__name__ in _ALL_ONCE and (collates or loader.batch_size is None):
        # In its order, which does not differ from call to call as that of a loader that shuffles.
        return read_labelled(loader.dataset, part)
    if loader.batch_size is None:
        return _of_items(loader, part)
    found = _of_batches(loader, loader.dataset, part)
    if found is None:
        raise UserError(f"The loader of {part} yields nothing; give one with at least one batch.")
    return found


def _of_batches(batches: Iterable[object], data: object, part: str) -> Labelled | None:
    """The joined content of a data set's batches; None if there are none."""
    images, labels = [], []
    for batch in batches:
        image, label = _both(batch, _columns_of(batch, data))
        images.append(image_array(image, f"x_{part}"))
        labels.append(label_array(label, f"y_{part}"))
    if not images:
        return None
    return Labelled(np.concatenate(images), np.concatenate(labels), _class_names(data, None))


def _of_mapping(data: Mapping[str, object], part: str) -> Labelled | None:
    image, label = _column(data, _IMAGES), _column(data, _LABELS)
    if image is None or label is None:
        return None
    found = labelled_pair(data[image], data[label], part)
    names = data.get("target_names")  # of scikit-learn's data sets
    if not isinstance(names, list | tuple | np.ndarray) or found.labels.dtype.kind not in "iu":
        return found
    return dataclasses.replace(found, class_names=tuple(map(str, names)))


def _of_table(data: _Table, part: str) -> Labelled | None:
    names = [*data.columns]
    label = _column(names, _LABELS)
    if label is None:
        return None
    others = [name for name in names if name != label]
    image = _column(others, _IMAGES)
    if image is not None:
        return labelled_pair(data[image], data[label], part)
    try:
        numbers = np.asarray(data[others])
        are_numbers = numbers.dtype.kind in "biuf"
        numbers = numbers if are_numbers else numbers.astype(np.float32)
    except (TypeError, ValueError):
        raise UserError(
            f"The columns of {part} beside {label!r} are not all numbers; give those to use, as "
            f"(table[[…]], table[{label!r}])."
        ) from None
    return labelled_pair(numbers, data[label], part)


def _of_items(data: Items | Iterable[object], part: str) -> Labelled | None:
    items = _each(data)
    first = next(items, None)
    if isinstance(data, list | tuple):
        # Torch makes lists of its batches.
        are_arrays = isinstance(first, list) and all(hasattr(each, "shape") for each in first)
        if not isinstance(first, tuple | Mapping) and not are_arrays:
            return None
        if len(data) == 2 and isinstance(first, tuple | list) and _is_pair(first):
            return None  # of a training and a test part
    elif not isinstance(first, tuple | list | Mapping):
        return None
    if isinstance(first, Mapping) and {*first} <= {"bytes", "path"}:  # an encoded image
        return None
    columns = _columns_of(first, data)
    if _is_batch(*_both(first, columns)):
        return _of_batches(itertools.chain([first], items), data, part)
    both = [_both(item, columns) for item in itertools.chain([first], items)]
    found = labelled_pair([image for image, _ in both], [label for _, label in both], part)
    return dataclasses.replace(found, class_names=_class_names(data, columns))


def _is_batch(images: object, labels: object) -> bool:
    """Whether these are several images with their labels, and not one image with its labels."""
    axes = _depth(images)
    if isinstance(labels, str | bytes) or not _depth(labels) or axes < 2:
        return False
    found = label_array(labels, "the labels")
    if len(found) != len(image_array(images, "the images")):
        return False
    # One image may have as many rows as there are classes.
    is_one_hot = found.ndim == 1 and sorted(found)[-2:] == [0, 1]
    return axes > 3 or not is_one_hot


def _check_ends(data: object) -> None:
    """Raises a UserError for a data set of TensorFlow that is repeated for ever."""
    if isinstance(data, Sized):
        try:
            len(data)
        except TypeError as error:  # it has no end, or does not know it
            if "infinite" in str(error):
                raise UserError(
                    "The data have no end; give a part of them, as data.take(1000)."
                ) from None


def _each(data: Items | Iterable[object]) -> Iterator[object]:
    _check_ends(data)
    if isinstance(data, Items):  # data sets of torch have no end but their length
        return (data[i] for i in range(len(data)))
    return iter(data)


def _columns_of(item: object, data: object) -> tuple[str, str] | None:
    """The names of image and label in an item of a data set; None if it is a pair."""
    if not isinstance(item, Mapping):
        return None
    kinds = {name: type(kind).__name__ for name, kind in _features(data).items()}
    image = _of_kind(kinds, "Image") or _column(item, _IMAGES)
    label = _of_kind(kinds, "ClassLabel") or _column(item, _LABELS)
    if image is None or label is None:
        missing = "images" if image is None else "labels"
        raise UserError(
            f"The data have the columns {', '.join(map(str, item))}, of which none is known to "
            f"hold the {missing}; give two of them, as (data['image'], data['label'])."
        )
    return image, label


def _both(item: object, columns: tuple[str, str] | None) -> tuple[object, object]:
    """The image and the label of an item, or those of a batch."""
    if isinstance(item, Mapping) and columns is not None:
        return item[columns[0]], item[columns[1]]
    if isinstance(item, list | tuple) and len(item) > 1:
        return item[0], item[1]
    raise UserError(f"An item of the data is {type(item).__name__}; give (image, label) pairs.")


def _of_kind(kinds: Mapping[str, str], kind: str) -> str | None:
    found = [name for name, each in kinds.items() if each == kind]
    return found[0] if len(found) == 1 else None


def _column(names: Iterable[str], known: Sequence[str]) -> str | None:
    by_word = {str(name).lower(): name for name in names}
    return next((by_word[word] for word in known if word in by_word), None)


def _features(data: object) -> Mapping[str, object]:
    """The kinds of a Hugging Face data set's columns."""
    found = getattr(data, "features", None)
    return found if isinstance(found, Mapping) else {}


def _class_names(data: object, columns: tuple[str, str] | None) -> tuple[str, ...]:
    """The class names of a data set: `features[label].names` or `classes`, also through subsets."""
    names = getattr(_features(data).get(columns[1]), "names", None) if columns else None
    if names is None:
        names = getattr(data, "classes", None)
    if names is None and (inner := getattr(data, "dataset", None)) is not None:
        return _class_names(inner, columns)
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()
