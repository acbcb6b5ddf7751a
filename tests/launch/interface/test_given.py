"""Data as people have them: in containers of other libraries, which stand-ins have the shape of."""

import collections
import io
import pathlib
import re
import types

import numpy as np
import pytest
from PIL import Image
from scipy.sparse import csr_array
from sklearn.datasets import load_digits

import kipper
from kipper.common.notices import DataWarning

BYTES = (load_digits().images[:60] * 15).astype(np.uint8)
LABELS = load_digits().target[:60]
PICTURES = [Image.fromarray(image) for image in BYTES]
WORDS = [f"digit {label}" for label in LABELS]


class Tensor:
    """What a tensor of torch can do."""

    def __init__(self, values):
        self.values = np.asarray(values)
        self.shape = self.values.shape
        self.dtype = self.values.dtype

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return Tensor(self.values[index])

    def detach(self):
        return self

    def cpu(self):
        return self

    def float(self):
        return self

    def numpy(self):
        return self.values


class TorchDataset:
    """A data set of torch: items by number, without an end."""

    classes = tuple(f"c{i}" for i in range(10))

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i % len(self)], int(self.labels[i % len(self)])


def default_collate(items):
    return Tensor([image.values for image, _ in items]), Tensor([label for _, label in items])


class RandomSampler:
    pass


class SubsetSampler:
    pass


class Loader:
    """A loader of torch, whose order is another each time."""

    collate_fn = staticmethod(default_collate)
    batch_size = 16

    def __init__(self, dataset, sampler, rows):
        self.dataset, self.sampler, self.rows = dataset, sampler, rows

    def __iter__(self):
        rows = np.random.default_rng().permutation(self.rows)
        for start in range(0, len(rows), 16):
            yield self.collate_fn([self.dataset[i] for i in rows[start : start + 16]])


BATCHES = [(BYTES[i : i + 16], LABELS[i : i + 16]) for i in range(0, 60, 16)]
IN_FULL = [{"image": images[..., None], "label": labels} for images, labels in BATCHES]


class Batches:
    """A data set of TensorFlow in batches, which does not know its length."""

    def __init__(self, batches):
        self._batches = batches

    def __len__(self):
        raise TypeError("The dataset length is unknown.")

    def __iter__(self):
        return iter(self._batches)


class Endless(Batches):
    def __len__(self):
        raise TypeError("The dataset is infinite.")


ClassLabel = collections.namedtuple("ClassLabel", "names")


class HuggingFaceDataset:
    """Rows as dicts, with the kinds of columns, and a shape."""

    features = types.MappingProxyType(
        {"picture": type("Image", (), {})(), "digit": ClassLabel(TorchDataset.classes)}
    )

    def __init__(self, rows=range(60)):
        self._rows = rows
        self.shape = (len(rows), 2)

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, i):
        row = self._rows[i]
        return {"picture": PICTURES[row], "digit": int(LABELS[row])}


class Table:
    """A data frame of polars."""

    dtypes = ()

    def __init__(self, columns):
        self._columns = columns
        self.columns = [*columns]

    def __getitem__(self, key):
        if isinstance(key, list):
            return np.array([self._columns[name] for name in key]).T
        return self._columns[key]


def _encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


@pytest.fixture(scope="module")
def expected():
    return kipper.load_data(BYTES, LABELS)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(((BYTES, LABELS),), id="one pair"),
        pytest.param(([*BYTES], [*LABELS]), id="lists of arrays"),
        pytest.param((PICTURES, LABELS), id="pictures"),
        pytest.param(([_encoded(each) for each in PICTURES], LABELS), id="encoded pictures"),
        pytest.param(([*zip(PICTURES, LABELS.tolist(), strict=True)],), id="list of pairs"),
        pytest.param((iter([*zip(PICTURES, LABELS, strict=True)]),), id="iterator of pairs"),
        pytest.param(({"images": BYTES, "target": LABELS},), id="dict of columns"),
        pytest.param(({"train": (BYTES, LABELS)},), id="dict with a part"),
        pytest.param((Table({"image": PICTURES, "label": LABELS}),), id="table of pictures"),
        pytest.param((TorchDataset(PICTURES, LABELS),), id="data set of torch"),
        pytest.param((TorchDataset(Tensor(BYTES[:, None]), LABELS),), id="of tensors"),
        pytest.param((Tensor(BYTES[:, None]), Tensor(LABELS)), id="tensors"),
        pytest.param((HuggingFaceDataset(),), id="data set of Hugging Face"),
        pytest.param(
            (Loader(TorchDataset(Tensor(BYTES[:, None]), LABELS), RandomSampler(), range(60)),),
            id="loader that shuffles",
        ),
        pytest.param((BATCHES,), id="list of batches"),
        pytest.param((iter(BATCHES),), id="iterator of batches"),
        pytest.param(([[*map(Tensor, batch)] for batch in BATCHES],), id="batches of torch"),
        pytest.param((Batches(BATCHES),), id="batches of TensorFlow"),
        pytest.param((Batches(IN_FULL),), id="batches of dicts, with channels"),
    ],
)
def test_images_with_labels_in_any_container(data, expected):
    found = kipper.load_data(*data)
    for part in ("x_train", "y_train", "x_test", "y_test"):
        assert np.array_equal(getattr(found, part), getattr(expected, part))
    assert (len(found.x_train), len(found.x_test)) == (48, 12)


def test_paths_of_pictures(tmp_path, expected):
    paths = [tmp_path / f"{i}.png" for i in range(60)]
    for picture, path in zip(PICTURES, paths, strict=True):
        picture.save(path)
    for given in (paths, np.array([str(path) for path in paths])):
        assert np.array_equal(kipper.load_data(given, LABELS).x_train, expected.x_train)


def test_nested_lists_are_numbers_used_unchanged():
    found = kipper.load_data(BYTES.tolist(), LABELS.tolist(), test_size=10)
    assert found.x_train.max() == BYTES.max()
    assert len(found.x_test) == 10


@pytest.mark.parametrize(
    "rows",
    [
        BYTES.reshape(60, -1),
        csr_array(BYTES.reshape(60, -1)),
        Table({f"p{i}": BYTES.reshape(60, -1)[:, i] for i in range(64)} | {"label": LABELS}),
    ],
)
def test_rows_of_numbers(rows):
    found = kipper.load_data(rows) if isinstance(rows, Table) else kipper.load_data(rows, LABELS)
    assert found.x_train.shape == (48, 1, 64, 1)


def test_a_loader_of_some_rows_gives_those():
    data = TorchDataset(Tensor(BYTES[:, None]), LABELS)
    found = kipper.load_data(Loader(data, SubsetSampler(), range(40)))
    assert (len(found.x_train), len(found.x_test)) == (32, 8)
    assert found.class_names[:2] == ("c0", "c1")


@pytest.mark.parametrize(
    "data",
    [
        ((BYTES[:40], LABELS[:40]), (BYTES[40:], LABELS[40:])),
        (((BYTES[:40], LABELS[:40]), (BYTES[40:], LABELS[40:])),),
        ({"train": (BYTES[:40], LABELS[:40]), "test": (BYTES[40:], LABELS[40:])},),
        (BYTES[:40], LABELS[:40], BYTES[40:], LABELS[40:]),
        (TorchDataset(BYTES[:40], LABELS[:40]), TorchDataset(BYTES[40:], LABELS[40:])),
        ({"train": HuggingFaceDataset(range(40)), "test": HuggingFaceDataset(range(40, 60))},),
    ],
)
def test_a_training_and_a_test_part(data):
    found = kipper.load_data(*data)
    assert np.array_equal(found.y_train, LABELS[:40])
    assert np.array_equal(found.y_test, LABELS[40:])


def test_words_as_labels_and_their_order():
    assert kipper.load_data(PICTURES, WORDS).class_names[1] == "digit 1"
    names = [f"digit {i}" for i in (*range(5, 10), *range(5))]
    found = kipper.load_data(BYTES, np.array(WORDS, object), class_names=names)
    assert found.class_names[found.y_train[0]] in WORDS
    assert found.class_names == tuple(names)


def test_the_split_is_that_of_the_seed(expected):
    assert np.array_equal(kipper.load_data(BYTES, LABELS, seed=0).x_test, expected.x_test)
    assert not np.array_equal(kipper.load_data(BYTES, LABELS, seed=1).x_test, expected.x_test)


def test_grey_pictures_among_coloured_ones():
    images = [PICTURES[0].convert("RGB"), *PICTURES[1:30], *(p.convert("P") for p in PICTURES[30:])]
    assert kipper.load_data(images, LABELS).x_train.shape == (48, 8, 8, 3)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ((BYTES, LABELS[1:]), "the train data: there are 60 images and 59 labels"),
        (((BYTES, LABELS), (BYTES, LABELS[1:])), "the test data: there are 60 images and 59"),
        (([BYTES[0], BYTES[1][:7]], [0, 1]), "Image 1 of x_train is of shape (7, 8), and image 0"),
        (([[[0, 1], [2]]] * 2, [0, 1]), "Image 0 of x_train has rows of different lengths."),
        ((PICTURES[:2], ["a", None]), "y_train has no label for image 1"),
        ((PICTURES[:2], ["a", 1]), "y_train holds both 'a' and 1; give labels of one kind."),
        ((["a.png"], [1]), "image 0 of x_train cannot be read as a picture: No such file"),
        (([object()], [1]), "Image 0 of x_train is object; give numbers."),
        (({"a": BYTES},), "The data are dict; give a data set of kipper.load_data"),
        (([{"a": 1, "label": 2}],), "columns a, label, of which none is known to hold the images"),
        ((Table({"image": BYTES, "digit": LABELS}),), "The data have the columns image, digit, of"),
        ((BYTES,), "The data are one array of shape (60, 8, 8); give its labels too"),
        ((Table({"name": WORDS, "label": LABELS}),), "beside 'label' are not all numbers"),
        ((np.ma.masked_array(BYTES), LABELS), "x_train is a masked array"),
        ((Endless(BATCHES),), "The data have no end; give a part of them, as data.take"),
        ((BYTES, 2 * (LABELS > 4) - 1), "hold the label -1, expected 0 to 1; np.unique(labels, "),
    ],
)
def test_data_that_cannot_be_used(data, sentence):
    with pytest.raises(kipper.UserError, match=re.escape(sentence)):
        kipper.load_data(*data)


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"test_size": "0.2"}, "test_size is '0.2'; it must be a share such as 0.2, or a whole"),
        ({"test_size": 1.0}, "test_size is 1.0; it must be a share such as 0.2, or a whole"),
        ({"test_size": 60}, "test_size is 60, but there are 60 images"),
        ({"seed": -1}, "seed is -1; it must be a whole number, 0 or more."),
        ({"seed": "a"}, "seed is 'a'; it must be a whole number, 0 or more."),
        ({"class_names": "ab"}, "class_names is 'ab'; it must be a list of names."),
        ({"class_names": ["a", "b"]}, "the labels go up to 9, but class_names has 2 names"),
    ],
)
def test_keywords_that_cannot_be_used(keywords, sentence):
    with pytest.raises(kipper.UserError, match=re.escape(sentence)):
        kipper.load_data(BYTES, LABELS, **keywords)


SETTINGS = {"steps": 3, "dashboard": "none", "verbose": False}


@pytest.fixture(scope="module")
def result():
    return kipper.distill((BYTES[:40], LABELS[:40]), (BYTES[40:], LABELS[40:]), **SETTINGS)


def test_a_run_on_other_scales_than_training_scores_the_same(result):
    """`x_train` of bytes beside the same pixels as floats: once an accuracy of chance."""
    with pytest.warns(DataWarning, match="x_test is floating point from 0 to 240 beside uint8"):
        mixed = kipper.distill(
            *(BYTES[:40], LABELS[:40], BYTES[40:].astype(np.float32), LABELS[40:]), **SETTINGS
        )
    assert mixed.test_accuracy == result.test_accuracy


def test_a_set_is_evaluated_on_any_container(result):
    images, labels = BYTES[40:], LABELS[40:]
    for data in ((images, labels), ((images, labels),), (PICTURES[40:], [*labels])):
        assert result.evaluate(*data).test_accuracy == result.test_accuracy
    with pytest.warns(DataWarning, match="x_test goes up to 240, but .* it is divided by 255"):
        found = result.evaluate(images.astype(float), labels)
    assert found.test_accuracy == result.test_accuracy


def test_images_on_a_scale_of_their_own_are_told_at_the_line_that_gives_them(result):
    """Digits up to 16 were once divided by 255, and the line was one of contextlib."""
    with pytest.warns(DataWarning, match="x_test goes up to 16, .*; give images on that") as said:
        result.evaluate((BYTES[40:] // 15).astype(float), LABELS[40:])
    assert [pathlib.Path(each.filename).name for each in said] == ["test_given.py"]


def test_predictions_for_any_container(result):
    expected = result.predict(BYTES[:5])
    batches = BYTES[:3, ..., None], BYTES[3:5, ..., None]
    assert np.array_equal(result.predict([*batches]), expected)
    assert np.array_equal(result.predict([[Tensor(batch)] for batch in batches]), expected)
    for images in (PICTURES[:5], [*BYTES[:5]], BYTES[:5, None], Tensor(BYTES[:5, None] / 255)):
        assert np.array_equal(result.predict(images), expected)
    with pytest.warns(DataWarning, match="x goes up to 240"):
        assert np.array_equal(result.predict(BYTES[:5].astype(float)), expected)
    with pytest.raises(kipper.UserError, match=r"that of one image; give x\[None\]"):
        result.predict(BYTES[0])


def test_bytes_for_a_set_of_floats_up_to_255():
    """Such a set once took bytes divided by 255."""
    floats = BYTES.astype(np.float32)
    result = kipper.distill(floats, LABELS, **SETTINGS)
    assert np.array_equal(result.predict(BYTES), result.predict(floats))
    with pytest.warns(DataWarning, match="multiply it by 255 if its white is 1"):
        result.predict(floats / 255)


def test_libraries_are_used_if_they_are_installed(expected):
    pandas = pytest.importorskip("pandas")
    columns = {f"p{i}": BYTES.reshape(60, -1)[:, i] for i in range(64)}
    table = pandas.DataFrame({"label": pandas.Categorical(WORDS), **columns})
    assert kipper.load_data(table).x_train.shape == (48, 1, 64, 1)
    cells = pandas.DataFrame({"image": [image.tolist() for image in BYTES], "label": WORDS})
    assert kipper.load_data(cells).x_train.shape == (48, 8, 8, 1)
    rows = table[[*columns]].convert_dtypes()
    for labels in (table["label"], table[["label"]]):
        assert np.array_equal(kipper.load_data(rows, labels).y_train, expected.y_train)
