"""Reading pickles of arrays, numbers and plain containers, and no others.

A pickle may name any importable function to be called with any arguments, so unpickling a file of
unknown origin is running it. Here only what numpy's own arrays are rebuilt by may be named.
"""

import pathlib
import pickle
from typing import Any

import numpy as np

from kipper.common.datasets.reading import expecting
from kipper.common.errors import UserError


def read_pickle(path: pathlib.Path, required: tuple[str, ...]) -> dict[str, Any]:
    """A dictionary pickled by Python 2 or 3, its byte-string keys as text.

    Raises:
        UserError: the file is missing or corrupt, names anything but an array, is no dictionary,
            or lacks a required entry.
    """
    with expecting(path, "a pickled dictionary"), open(path, "rb") as file:
        unpickled = _ArrayUnpickler(file, str(path)).load()
    if not isinstance(unpickled, dict):
        raise UserError(f"{path} holds a {type(unpickled).__name__}, expected a dictionary")
    entries = {
        key.decode("latin1") if isinstance(key, bytes) else key: entry
        for key, entry in unpickled.items()
    }
    missing = [key for key in required if key not in entries]
    if missing:
        raise UserError(f"{path} lacks the entry {missing[0]!r}, expected {', '.join(required)}")
    return entries


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """Stands in for codecs.encode, which Python 3 names where it pickles bytes for Python 2."""
    if encoding != "latin1":
        raise ValueError(f"bytes are encoded as {encoding!r}, expected 'latin1'")
    return text.encode("latin1")


def _admitted() -> dict[tuple[str, str], Any]:
    """The functions numpy rebuilds arrays and numbers by, under their old and new modules."""
    array = np.zeros(1, np.uint8)
    by_module = {
        "multiarray": {
            "_reconstruct": array.__reduce__()[0],
            "scalar": np.uint8(0).__reduce__()[0],
        },
        "numeric": {"_frombuffer": array.__reduce_ex__(5)[0]},
    }
    admitted: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1_bytes,
    }
    for module, functions in by_module.items():
        for function_name, function in functions.items():
            admitted["numpy.core." + module, function_name] = function
            admitted["numpy._core." + module, function_name] = function
    return admitted


_ADMITTED = _admitted()


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that looks up nothing outside `_ADMITTED`."""

    def __init__(self, file: Any, path: str) -> None:
        # latin1 maps every byte to one character, which is how numpy reads Python 2's arrays.
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Overrides the import that pickle would do.

        Raises:
            UserError: the global is not on the list.
        """
        if (module_name, global_name) not in _ADMITTED:
            raise UserError(
                f"{self._path} names {module_name}.{global_name}, "
                "expected a pickle of arrays and plain containers only"
            )
        return _ADMITTED[module_name, global_name]
