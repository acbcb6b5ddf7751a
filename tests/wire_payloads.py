"""Samples of every message class, and payloads written by hand, for the tests of the wire."""

import dataclasses
import json
import struct
import zlib
from typing import Any

import numpy as np

from kipper.common import messages
from kipper.common.messages import Message
from kipper.common.wire import encode

_RNG = np.random.default_rng(5)


def _images(count: int, dtype: str) -> np.ndarray:
    return _RNG.normal(size=(count, 3, 2, 1)).astype(dtype)


MESSAGES: list[Message] = [
    messages.Configure(
        protocol_version=1,
        run="Läufe 7",
        architectures=["fc1", "convnet"],
        kind="ntk",
        dtype="float32",
        engine="auto",
        threads=2,
        augment="flip",
        seed=3,
        whitening="w" * 64,
        mean=np.array([0.5, 1.5]),
        std=np.ones(2),
    ),
    messages.Configured(
        engine="neural_tangents",
        device="Gerät №1",
        arithmetic="XLA 0",
        check="1a",
        row_keys=["ab", ""],
    ),
    messages.Configured(engine="", device="", arithmetic="", check="", row_keys=[]),
    messages.Probe(x1=_images(2, "float32"), x2=_images(3, "float32")),
    messages.PutRows(key="k" * 64, total=9, index=np.array([2, 8, 0]), rows=_images(3, "float32")),
    messages.PutRows(
        key="",
        total=0,
        index=np.zeros(0, np.int64),
        rows=np.zeros((0, 3, 2, 1), np.float32),
    ),
    messages.PutSupport(
        version=2**40, step=2**33, kernel=1, total=7, start=5, images=_images(2, "float64")
    ),
    messages.PutSupport(
        version=-1, step=-1, kernel=0, total=3, start=0, images=_images(5, "float32")[::2]
    ),
    messages.Block(
        block=2**50,
        version=4,
        start=1,
        stop=3,
        columns_key="support",
        draw=-1,
        linearise=True,
        columns=np.arange(20)[::-3],
    ),
    messages.Block(
        block=0,
        version=0,
        start=0,
        stop=0,
        columns_key="key",
        draw=9,
        linearise=False,
        columns=np.zeros(0, np.int64),
    ),
    messages.KernelBlock(kernel=_RNG.normal(size=(2, 3)).astype(np.float32)),
    messages.KernelBlock(kernel=_RNG.normal(size=(3, 5)).T),
    messages.KernelBlock(kernel=np.zeros((2, 0))),
    messages.BlockVjp(
        block=-1,
        version=4,
        start=1,
        stop=3,
        columns_key="support",
        draw=-1,
        columns=np.array([5, 0, 5]),
        cotangent=_RNG.normal(size=(2, 3)).astype(np.float32),
    ),
    messages.BlockVjp(
        block=-1,
        version=4,
        start=1,
        stop=3,
        columns_key="key",
        draw=9,
        columns=np.zeros(0, np.int64),
        cotangent=np.zeros((2, 0)),
    ),
    messages.ImageCotangents(rows=_images(2, "float64"), columns=_images(0, "float64")),
    messages.ImageCotangents(rows=_images(2, "float32"), columns=_images(1, "float32")),
    messages.Prepare(block=11, kernel=1, columns_key="a" * 64, draw=4, columns=np.arange(5)),
    messages.Cancel(block=12),
    messages.Hello(protocol_version=2, worker="Arbeiter 1", incarnation="0f", address="[::1]:8470"),
    messages.Heartbeat(worker="w", incarnation=""),
    messages.Leave(worker="", incarnation="i"),
    messages.Welcome(heartbeat_seconds=1.5),
    messages.Goodbye(reason="The run is over.", is_over=True),
    messages.Done(),
    messages.Failure(kind=messages.MISSING, message='a "quoted" line\nand — another \ud800'),
]


def header_of(message: Message) -> dict[str, Any]:
    """The JSON header of a message, as the head of `wire.py` describes it."""
    values = {field.name: getattr(message, field.name) for field in dataclasses.fields(message)}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    return {
        "message": type(message).__name__,
        "scalars": {name: value for name, value in values.items() if name not in arrays},
        "arrays": [[name, a.dtype.name, list(a.shape)] for name, a in arrays.items()],
    }


def body_of(message: Message) -> bytes:
    """The arrays of a message, each padded to 16 bytes."""
    body = b""
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        if isinstance(value, np.ndarray):
            body += value.tobytes() + bytes(-value.nbytes % 16)
    return body


def payload_of(header: Any, body: bytes = b"") -> bytes:
    """A payload with a correct checksum over any header (bytes, or a value for JSON) and body."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    lengths = struct.pack("<II", len(text), 0)
    rest = text + bytes(-len(text) % 16) + body
    covered = lengths + rest if _CHECKSUM_COVERS_LENGTHS else rest
    return b"KPR1" + struct.pack("<I", zlib.crc32(covered)) + lengths + rest


def _checksum_covers_lengths() -> bool:
    """Whether the checksum of a valid message covers everything after itself."""
    payload = encode(messages.Done())
    return struct.pack("<I", zlib.crc32(payload[8:])) == payload[4:8]


_CHECKSUM_COVERS_LENGTHS = _checksum_covers_lengths()
