"""Messages to bytes and back: a JSON header, then the arrays' raw little-endian memory.

Nothing is pickled, so decoding can build no objects but the dataclasses of `messages.py`.

    "KPR1" | crc32 of all that follows | header length | 0 | header JSON, padded | array, padded | …

Integers are unsigned 32-bit little-endian; padding is to 16 bytes, so that decoded arrays are
aligned views of the received buffer (and read-only).
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
_CLASSES: dict[str, type] = {cls.__name__: cls for cls in typing.get_args(messages.Message)}


class WireError(KipperError):
    """Bytes that are not a message, or a message that is not as its class says."""


def content_key(array: np.ndarray) -> str:
    """SHA-256 of an array's dtype, shape and values, as 64 hexadecimal digits."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def encode(message: Message) -> bytes:
    """The message as bytes.

    Raises:
        WireError: a field holds a value that its class does not admit.
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
    padding = bytes(-len(header) % _ALIGNMENT)
    pieces: list[Any] = [_SIZES.pack(len(header), 0), header, padding]
    for _, array in arrays:
        pieces += [array.reshape(-1).view(np.uint8).data, bytes(-array.nbytes % _ALIGNMENT)]
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return b"".join([_GUARD.pack(_MAGIC, crc), *pieces])


def decode(payload: bytes) -> Message:
    """The message that `encode` was given; its arrays are read-only views of `payload`.

    Raises:
        WireError: damaged or foreign bytes, unknown message, wrong fields, dtypes or shapes.
    """
    header, offset = _decode_header(payload)
    try:
        cls = _CLASSES[header["message"]]
        values: dict[str, Any] = dict(header["scalars"])
        for name, dtype, shape in header["arrays"]:
            if name in values:
                raise ValueError(f"two values for {name}")
            array, offset = _decode_array(payload, offset, dtype, shape)
            values[name] = array
        message = cls(**values)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WireError(f"A received message is malformed: {error!r}.") from error
    for field in dataclasses.fields(message):
        check = _check_array if field.metadata else _check_scalar
        check(message, field, getattr(message, field.name))
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
    header_bytes, _ = _SIZES.unpack_from(payload, _GUARD.size)
    end = _PREFIX_BYTES + header_bytes
    try:
        header = json.loads(payload[_PREFIX_BYTES:end])
    except (ValueError, RecursionError) as error:
        raise WireError(f"A received message has no readable header: {error}.") from error
    if not isinstance(header, dict):
        raise WireError("A received message has a header that is not an object.")
    return header, end + -header_bytes % _ALIGNMENT


def _decode_array(
    payload: bytes, offset: int, dtype: str, shape: list[int]
) -> tuple[np.ndarray, int]:
    if dtype not in ("float32", "float64", "int64") or any(side < 0 for side in shape):
        raise ValueError(f"an array of dtype {dtype!r} and shape {shape}")
    count = math.prod(shape)
    array = np.frombuffer(payload, np.dtype(dtype), count, offset).reshape(shape)
    return array, offset + array.nbytes + -array.nbytes % _ALIGNMENT


def _check_array(message: Any, field: dataclasses.Field, value: Any) -> None:
    dtypes, ndim = field.metadata["dtypes"], field.metadata["ndim"]
    if (
        not isinstance(value, np.ndarray)
        or value.dtype.name not in dtypes
        or value.ndim != ndim
        or not value.dtype.isnative
    ):
        got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else repr(value)
        raise WireError(
            f"{type(message).__name__}.{field.name} must be an array of "
            f"{' or '.join(dtypes)} with {ndim} axes, not {got}."
        )


def _check_scalar(message: Any, field: dataclasses.Field, value: Any) -> None:
    wanted = field.type
    if wanted == list[str]:
        fits = isinstance(value, list) and all(type(item) is str for item in value)
    else:
        fits = type(value) is wanted  # exactly: a numpy integer or a bool is no int
    if not fits:
        raise WireError(f"{type(message).__name__}.{field.name} must be {wanted}, not {value!r}.")
