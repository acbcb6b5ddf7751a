"""Reads pickles that contain only arrays, numbers and plain containers.

A pickle can call any importable function, so unpickling an untrusted file means running it. This
unpickler permits only the functions that rebuild numpy's arrays.
"""

import pathlib
import pickle
from typing import Any

import numpy as np

from kipper.common.datasets.reading import expecting
from kipper.common.errors import UserError


def read_pickle(path: pathlib.Path, required: tuple[str, ...]) -> dict[str, Any]:
    """A dictionary pickled by Python 2 or 3, with byte-string keys as text.

    Raises:
        UserError: the file is missing or corrupt, calls a function that is not permitted, is not a
            dictionary, or lacks a required entry.
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
    """Replaces codecs.encode, which Python 3 uses to pickle bytes for Python 2."""
    if encoding != "latin1":
        raise ValueError(f"bytes are encoded as {encoding!r}, expected 'latin1'")
    return text.encode("latin1")


def _admitted() -> dict[tuple[str, str], Any]:
    """The functions that rebuild numpy's arrays and numbers, by old and new module."""
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
        # latin1 maps every byte to one character, as numpy expects for arrays of Python 2.
        super().__init__(file, encoding="latin1")
        self._path = path

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Replaces pickle's import; raises UserError for functions that are not permitted."""
        if (module_name, global_name) not in _ADMITTED:
            raise UserError(
                f"{self._path} names {module_name}.{global_name}, "
                "expected a pickle of arrays and plain containers only"
            )
        return _ADMITTED[module_name, global_name]
