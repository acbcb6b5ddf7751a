"""Reads pickles that contain only arrays, numbers, text and plain containers.

A pickle is a program for a stack machine. pickle's own machine calls any importable function, and
numpy's functions for rebuilding arrays trust what they are given: `dtype.__setstate__` makes numpy
take bytes of the file for addresses. So this machine has only the instructions that build
containers, and recognises arrays by the names of numpy's functions instead of calling them.

Source: Python's `pickletools`, which describes the instructions and reads their arguments.
"""

import codecs
import dataclasses
import io
import math
import pathlib
import pickletools
from typing import Literal, TypeVar

import numpy as np

from kipper.common.datasets.reading import expecting, read_whole
from kipper.common.errors import UserError
from kipper.common.printable import printable

# CIFAR-100 has 155 MB and, in the most verbose form, about a million instructions.
_MOST_BYTES = 2**30
_MOST_INSTRUCTIONS = 2_000_000
_PUSH_THEIR_ARGUMENT = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_INSTRUCTIONS = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}
_DTYPES = ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


@dataclasses.dataclass(frozen=True)
class _Function:
    """Stands for one of numpy's functions or classes, which is never called."""

    name: str


@dataclasses.dataclass
class _Dtype:
    """A dtype of `_DTYPES`; its state says the byte order."""

    code: str
    byte_order: Literal["<", ">", "|", "="] = "="

    def numpy(self) -> np.dtype:
        return np.dtype(self.code).newbyteorder(self.byte_order)


@dataclasses.dataclass
class _Array:
    """An array; None until its state has been read."""

    values: np.ndarray | None = None


_Kind = TypeVar("_Kind")
_ADMITTED = {
    ("numpy", "ndarray"): _Function("ndarray"),
    ("numpy", "dtype"): _Function("dtype"),
    ("_codecs", "encode"): _Function("encode"),  # of bytes that Python 3 pickles for Python 2
    **{
        (f"numpy.{core}.{module}", name): _Function(name)
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    },
}


def read_pickle(path: pathlib.Path, required: tuple[str, ...]) -> dict[str, object]:
    """A dictionary pickled by Python 2 or 3, with byte-string keys as text.

    Its entries are arrays, numbers, text and containers; arrays within containers are not complete.

    Raises:
        UserError: the file is missing, corrupt or too large, names a function other than those of
            plain arrays, is not a dictionary, or lacks a required entry.
    """
    with expecting(path, "a pickled dictionary"):
        made = _Machine(read_whole(path, _MOST_BYTES), path).run()
        if not isinstance(made, dict):
            kind = type(made).__name__.strip("_").lower()
            raise UserError(f"{path} holds a value of type {kind}, expected a dictionary")
        entries = {
            key.decode("latin1") if isinstance(key, bytes) else str(key): _finished(entry)
            for key, entry in made.items()
        }
    missing = [key for key in required if key not in entries]
    if missing:
        raise UserError(f"{path} lacks the entry {missing[0]!r}, expected {', '.join(required)}")
    return entries


def _finished(entry: object) -> object:
    if isinstance(entry, _Array) and entry.values is not None:
        return entry.values
    if isinstance(entry, _Array | _Function | _Dtype):
        raise ValueError("an array is incomplete")
    return entry


class _Machine:
    """Runs one pickle.

    Its methods raise a UserError for functions that are not admitted, and a ValueError or any other
    exception for malformed input.
    """

    def __init__(self, content: bytes, path: pathlib.Path):
        self._file = io.BytesIO(content)
        self._path = path
        self._stack: list[object] = []
        self._below: list[list[object]] = []  # the stacks below each mark
        self._memo: dict[int, object] = {}
        self._encodable = len(content)

    def run(self) -> object:
        """The value that the pickle builds."""
        for _ in range(_MOST_INSTRUCTIONS):
            code = self._file.read(1)
            if code not in _INSTRUCTIONS:
                raise ValueError(f"0x{code.hex()} is no instruction" if code else "it is cut off")
            instruction = _INSTRUCTIONS[code]
            if instruction.name == "STOP":
                return self._stack.pop()
            if instruction.name == "STRING":
                self._stack.append(self._quoted())
            else:
                argument = instruction.arg.reader(self._file) if instruction.arg else None
                self._execute(instruction.name, argument)
        raise ValueError(f"it has more than {_MOST_INSTRUCTIONS:,} instructions")

    def _quoted(self) -> str:
        """Text of Python 2, which pickletools reads only if it is ASCII."""
        raw = pickletools.read_stringnl(self._file, decode=False)
        return codecs.escape_decode(raw)[0].decode("latin1")

    def _execute(self, name: str, argument: object) -> None:
        stack, memo = self._stack, self._memo
        match name:
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(memo[_whole(argument)])
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[_whole(argument)] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._top(int(name[-1]))))
            case "MARK":
                self._below.append(stack)
                self._stack = []
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._to_mark()
            case "DUP":
                stack.append(stack[-1])
            case "TUPLE":
                items = self._to_mark()
                self._stack.append(tuple(items))
            case "LIST":
                items = self._to_mark()
                self._stack.append(items)
            case "DICT":
                items = self._to_mark()
                self._stack.append(_paired(items))
            case "APPEND":
                _instance(stack[-2], list).append(stack.pop())
            case "APPENDS":
                items = self._to_mark()
                _instance(self._stack[-1], list).extend(items)
            case "SETITEM":
                items = self._top(2)
                _instance(stack[-1], dict).update(_paired(items))
            case "SETITEMS":
                items = self._to_mark()
                _instance(self._stack[-1], dict).update(_paired(items))
            case "GLOBAL":
                module, _, of_module = str(argument).rpartition(" ")
                stack.append(self._named(module, of_module))
            case "STACK_GLOBAL":
                module, of_module = (_instance(part, str) for part in self._top(2))
                stack.append(self._named(module, of_module))
            case "REDUCE":
                function, arguments = self._top(2)
                stack.append(
                    self._returned(_instance(function, _Function), _instance(arguments, tuple))
                )
            case "BUILD":
                state = _instance(stack.pop(), tuple)
                self._set_state(stack[-1], state)
            case "PROTO" | "FRAME":
                pass
            case _ if name in _PUSH_THEIR_ARGUMENT:
                stack.append(argument)
            case _:
                raise ValueError(f"{name} makes an object, expected arrays and plain containers")

    def _top(self, count: int) -> list[object]:
        """Takes the last `count` values from the stack."""
        if len(self._stack) < count:
            raise ValueError("a value is missing")
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _to_mark(self) -> list[object]:
        """Takes all values above the newest mark from the stack, and the mark."""
        taken, self._stack = self._stack, self._below.pop()
        return taken

    def _returned(self, function: _Function, arguments: tuple[object, ...]) -> object:
        """The value that numpy's function of that name would return."""
        match function.name, *arguments:
            case "encode", str() as text, "latin1":
                return self._encoded(text)
            case "dtype", str() as code, *_ if code in _DTYPES:
                return _Dtype(code)
            case "dtype", *_:
                raise ValueError(f"an array is not of {', '.join(_DTYPES)}")
            case "_reconstruct", _Function("ndarray"), (0,), _:
                return _Array()
            case "_frombuffer", data, _Dtype() as dtype, tuple() as shape, str() as order:
                return _Array(self._array(data, dtype, shape, order))
            case "scalar", _Dtype() as dtype, data:
                return self._array(data, dtype, (), "C").item()
        raise ValueError(f"{function.name} has unexpected arguments")

    def _set_state(self, made: object, state: tuple[object, ...]) -> None:
        """Completes a dtype or an array, as numpy's `__setstate__` would."""
        match made, *state:
            case _Dtype() as dtype, 3, (
                "<" | ">" | "|" | "="
            ) as order, None, None, None, -1, -1, 0:
                dtype.byte_order = order
            case _Array(
                None
            ) as array, 1, tuple() as shape, _Dtype() as dtype, bool() as is_fortran, _:
                array.values = self._array(state[-1], dtype, shape, "F" if is_fortran else "C")
            case _:
                raise ValueError("the state of an array is not that of plain numbers")

    def _array(
        self, data: object, dtype: _Dtype, shape: tuple[object, ...], order: str
    ) -> np.ndarray:
        """The values; `data` are bytes, or Python 2's text."""
        raw = self._encoded(data) if isinstance(data, str) else data
        sizes = [_whole(size) for size in shape]
        expected = math.prod(sizes) * dtype.numpy().itemsize
        if not isinstance(raw, bytes | bytearray) or len(raw) != expected:
            raise ValueError(f"an array of shape {tuple(sizes)} does not hold {expected} bytes")
        return np.frombuffer(raw, dtype.numpy()).reshape(sizes, order="F" if order == "F" else "C")

    def _encoded(self, text: str) -> bytes:
        """Bytes that are stored as text; all together are not longer than the file."""
        self._encodable -= len(text)
        if self._encodable < 0:
            raise ValueError("it uses the same text for many arrays")
        return text.encode("latin1")

    def _named(self, module: str, name: str) -> _Function:
        if (module, name) not in _ADMITTED:
            raise UserError(
                f"{self._path} names {printable(f'{module}.{name}', 100)}, "
                "expected a pickle of arrays and plain containers only"
            )
        return _ADMITTED[module, name]


def _paired(items: list[object]) -> dict[str | bytes | int, object]:
    """Keys and values that follow each other.

    Keys are text or numbers: the hash of a tuple within a million tuples would overflow the stack.
    """
    found: dict[str | bytes | int, object] = {}
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | bytes | int):
            raise ValueError("a key is neither text nor a number")
        found[key] = value
    return found


def _instance(value: object, kind: type[_Kind]) -> _Kind:
    if not isinstance(value, kind):
        raise ValueError(f"a {kind.__name__.strip('_').lower()} is missing")
    return value


def _whole(value: object) -> int:
    """The value, a whole number that is not negative."""
    if _instance(value, int) < 0:
        raise ValueError("a number is negative")
    return _instance(value, int)
