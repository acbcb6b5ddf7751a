"""Messages to bytes and back: a JSON header, then the arrays' raw little-endian memory.

Nothing is pickled: decoding builds only the dataclasses of `messages.py`.

    "KPR1" | crc32 of all that follows | header length | 0 | header JSON, padded | array, padded | …

Integers are unsigned 32-bit little-endian. Padding is to 16 bytes, so that decoded arrays are
aligned, read-only views of the received buffer.

For any bytes, decoding soon returns a message or raises `WireError`, and allocates at most a fixed
amount beyond the payload (tests/common/test_wire_fuzz.py). Headers are bounded for this reason: a
parsed header takes about twenty times its length.
"""

import dataclasses
import hashlib
import json
import math
import struct
import typing
import zlib
from typing import Any

import numpy as np

from kipper.common import messages
from kipper.common.errors import KipperError
from kipper.common.messages import Message

_MAGIC = b"KPR1"
_GUARD = struct.Struct("<4sI")  # magic, crc32
_SIZES = struct.Struct("<II")  # header length, zero
_PREFIX_BYTES = _GUARD.size + _SIZES.size
_ALIGNMENT = 16
# The longest headers list row sets, 68 bytes each, or quote an error of XLA.
MAX_HEADER_BYTES = 2**20
_MAX_INT = 2**63
# An array without elements could claim sides of any length; longer ones than this are refused.
_MAX_EMPTY_SIDE = 2**16
_MAX_AXES = 4
_SHOWN = 200  # characters of a received value in error messages
_CLASSES: dict[str, type] = {cls.__name__: cls for cls in typing.get_args(messages.Message)}


class WireError(KipperError):
    """Bytes that are not a message, or a message whose fields do not fit its class."""


def content_key(array: np.ndarray) -> str:
    """SHA-256 of an array's dtype, shape and values, as 64 hexadecimal digits."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def encode(message: Message) -> bytes:
    """The message as bytes.

    Raises:
        WireError: the value of a field does not fit its type.
    """
    scalars: dict[str, Any] = {}
    arrays: list[tuple[str, np.ndarray]] = []
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if field.metadata:
            _check_array(message, field, value)
            arrays.append((field.name, np.ascontiguousarray(value)))
        else:
            _check_scalar(message, field, value)
            scalars[field.name] = value
    header = json.dumps(
        {
            "message": type(message).__name__,
            "scalars": scalars,
            "arrays": [[name, array.dtype.name, list(array.shape)] for name, array in arrays],
        }
    ).encode()
    if len(header) > MAX_HEADER_BYTES:
        raise WireError(
            f"A {type(message).__name__} has a header of {len(header)} bytes, more than "
            f"{MAX_HEADER_BYTES}."
        )
    padding = bytes(-len(header) % _ALIGNMENT)
    pieces: list[Any] = [_SIZES.pack(len(header), 0), header, padding]
    for _, array in arrays:
        pieces += [array.reshape(-1).view(np.uint8).data, bytes(-array.nbytes % _ALIGNMENT)]
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return b"".join([_GUARD.pack(_MAGIC, crc), *pieces])


def decode(payload: bytes) -> Message:
    """The encoded message; its arrays are read-only views of `payload`.

    Raises:
        WireError: damaged or foreign bytes, an unknown message, wrong fields, dtypes or shapes.
    """
    header, offset = _decode_header(payload)
    try:
        cls = _CLASSES[header["message"]]
        values = _scalars(cls, header["scalars"])
        for name, dtype, shape in _array_entries(cls, header["arrays"]):
            values[name], offset = _decode_array(payload, offset, dtype, shape)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WireError(f"A received message is malformed: {_shown(error)}.") from error
    message = cls(**values)
    for field in dataclasses.fields(message):
        check = _check_array if field.metadata else _check_scalar
        check(message, field, values[field.name])
    if offset != len(payload):
        raise WireError(f"A received message has {len(payload) - offset} bytes too many.")
    return typing.cast(Message, message)


def _decode_header(payload: bytes) -> tuple[dict[str, Any], int]:
    """The header and the offset of the first array."""
    if len(payload) < _PREFIX_BYTES or payload[:4] != _MAGIC:
        raise WireError("Received bytes are not a kipper message; is the peer another program?")
    _, crc = _GUARD.unpack_from(payload)
    if zlib.crc32(memoryview(payload)[_GUARD.size :]) != crc:
        raise WireError("A message was damaged on its way (its checksum differs).")
    header_bytes, zero = _SIZES.unpack_from(payload, _GUARD.size)
    end = _PREFIX_BYTES + header_bytes
    if zero or header_bytes > MAX_HEADER_BYTES or end > len(payload):
        raise WireError(f"A received message claims a header of {header_bytes} bytes.")
    try:
        text = payload[_PREFIX_BYTES:end].decode("ascii")
        header = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise WireError(f"A received message has no readable header: {_shown(error)}.") from error
    if not isinstance(header, dict) or header.keys() != {"message", "scalars", "arrays"}:
        raise WireError("A received message is malformed: its header is not that of a message.")
    return header, end + -header_bytes % _ALIGNMENT


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name occurs twice")
    return values


def _scalars(cls: type, values: Any) -> dict[str, Any]:
    """The values of all fields of `cls` that are not arrays, by name."""
    _check_names({field.name for field in dataclasses.fields(cls) if not field.metadata}, values)
    return dict(values)


def _array_entries(cls: type, entries: Any) -> list[tuple[str, Any, Any]]:
    """Name, dtype and shape of each array of `cls`, in the order of its fields."""
    if type(entries) is not list:
        raise TypeError("its arrays are not a list")
    expected = [field.name for field in dataclasses.fields(cls) if field.metadata]
    named = {name: (name, dtype, shape) for name, dtype, shape in entries}
    _check_names(set(expected), named)
    if list(named) != expected or len(entries) != len(expected):
        raise ValueError(f"arrays in another order than {expected}")
    return list(named.values())


def _check_names(expected: set[str], values: Any) -> None:
    if not isinstance(values, dict):
        raise TypeError(f"{values!r:.{_SHOWN}} has no names")
    for name in expected ^ values.keys():
        raise ValueError(f"{'no value for' if name in expected else 'surplus'} {name:.{_SHOWN}}")


def _decode_array(payload: bytes, offset: int, dtype: Any, shape: Any) -> tuple[np.ndarray, int]:
    if dtype not in ("float32", "float64", "int64"):
        raise ValueError(f"an array of dtype {dtype!r:.{_SHOWN}}")
    most = max(len(payload), _MAX_EMPTY_SIDE)
    if (
        type(shape) is not list
        or len(shape) > _MAX_AXES
        or not all(type(side) is int and 0 <= side <= most for side in shape)
    ):
        raise ValueError(f"an array of shape {shape!r:.{_SHOWN}}")
    count = math.prod(shape)
    array = np.frombuffer(payload, np.dtype(dtype), count, offset).reshape(shape)
    return array, offset + array.nbytes + -array.nbytes % _ALIGNMENT


def _shown(value: Any) -> str:
    return f"{value!r:.{_SHOWN}}"


def _check_array(message: Any, field: dataclasses.Field[Any], value: Any) -> None:
    dtypes, ndim = field.metadata["dtypes"], field.metadata["ndim"]
    if (
        not isinstance(value, np.ndarray)
        or value.dtype.name not in dtypes
        or value.ndim != ndim
        or not value.dtype.isnative
    ):
        got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else _shown(value)
        raise WireError(
            f"{type(message).__name__}.{field.name} must be an array of "
            f"{' or '.join(dtypes)} with {ndim} axes, not {got}."
        )


def _check_scalar(message: Any, field: dataclasses.Field[Any], value: Any) -> None:
    wanted = field.type
    if wanted == list[str]:
        fits = isinstance(value, list) and all(type(item) is str for item in value)
    else:
        fits = type(value) is wanted  # exactly: numpy integers and bools are refused
        if wanted is int and fits:
            fits = -_MAX_INT <= value < _MAX_INT
        elif wanted is float and fits:
            fits = math.isfinite(value)  # JSON has no other floats
    if not fits:
        raise WireError(
            f"{type(message).__name__}.{field.name} must be {wanted}, not {_shown(value)}."
        )
