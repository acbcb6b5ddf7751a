"""The data sets by name."""

import difflib
import pathlib
from collections.abc import Callable, Mapping

from kipper.common.datasets.cifar import load_cifar10, load_cifar100
from kipper.common.datasets.dataset import Dataset
from kipper.common.datasets.embedded import load_digits, load_mnist5k
from kipper.common.datasets.folder import load_folder
from kipper.common.datasets.idx import load_fashion_mnist, load_mnist
from kipper.common.datasets.memory import PREFIX as ARRAYS_PREFIX
from kipper.common.datasets.memory import load_arrays
from kipper.common.datasets.npz import load_npz
from kipper.common.datasets.svhn import load_svhn_cropped
from kipper.common.errors import UserError

_NPZ_PREFIX = "npz:"
_FOLDER_PREFIX = "folder:"

_EMBEDDED: Mapping[str, Callable[[], Dataset]] = {
    "digits": load_digits,
    "mnist5k": load_mnist5k,
}
_FROM_FOLDER: Mapping[str, Callable[[pathlib.Path], Dataset]] = {
    "mnist": load_mnist,
    "fashion_mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "svhn_cropped": load_svhn_cropped,
}

DATASET_NAMES = (*_EMBEDDED, *_FROM_FOLDER, f"{_NPZ_PREFIX}PATH", f"{_FOLDER_PREFIX}PATH")


def load_dataset(name: str, data_dir: str | None = None) -> Dataset:
    """Loads a data set by its name.

    Args:
        name: one of `DATASET_NAMES`; see `load_folder` for the forms of folder:PATH. Or the name of
            arrays in memory, from `remember`.
        data_dir: the folder with the files or with a subfolder that has them, if the name needs it.

    Returns:
        The data set. uint8 pixels are divided by 255; floating-point ones are kept.

    Raises:
        UserError: the name is unknown, `data_dir` is missing, or a file is missing, corrupt or of
            unexpected content.
    """
    if name in _EMBEDDED:
        return _EMBEDDED[name]()
    if name.startswith(_NPZ_PREFIX) and name != _NPZ_PREFIX:
        return load_npz(pathlib.Path(name.removeprefix(_NPZ_PREFIX)), name)
    if name.startswith(_FOLDER_PREFIX) and name != _FOLDER_PREFIX:
        return load_folder(name.removeprefix(_FOLDER_PREFIX), name)
    if name.startswith(ARRAYS_PREFIX):
        return load_arrays(name, data_dir)
    if name not in _FROM_FOLDER:
        close = difflib.get_close_matches(name, (*_EMBEDDED, *_FROM_FOLDER), 1)
        meant = f"; did you mean {close[0]}?" if close else ""
        raise UserError(
            f"the data set {name!r} is not known, expected one of {', '.join(DATASET_NAMES)}{meant}"
        )
    if not data_dir:
        raise UserError(f"data_dir is not given, expected the folder with the files of {name}")
    return _FROM_FOLDER[name](pathlib.Path(data_dir))
