"""Compares `common/wire.py` with other encodings of messages, in microseconds and MB/s.

    python benchmarks/message_encodings.py [--seconds=0.3] [--json]

Each encoding gets the same messages: scalars and one large array. Times are medians of repeated
calls, with encodings taking turns, in a process that keeps freed memory as `kipper` does. msgpack
and safetensors are measured if installed. Only "wire" and "wire and zlib" detect a flipped bit.
pickle executes what it receives, so it is here only for its speed. The row "crc32" is the checksum,
which the time of "wire" includes, once for encoding and once for decoding.
"""

import argparse
import dataclasses
import importlib.util
import io
import json
import pickle
import statistics
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from kipper.common import messages, wire
from kipper.launch.processes.process import keep_freed_memory

Encoding = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]


def sample_messages() -> dict[str, Any]:
    """Messages of runs, by the size of their array; noise resembles kernels and cotangents."""
    random = np.random.default_rng(0)

    def floats(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    return {
        "10 KB kernel block": messages.KernelBlock(kernel=floats(25, 100)),
        "32 KB kernel block": messages.KernelBlock(kernel=floats(80, 100)),
        "300 KB image cotangents": messages.ImageCotangents(
            rows=floats(25, 32, 32, 3), columns=floats(0, 32, 32, 3)
        ),
        "3 MB target rows": messages.PutRows(
            key="0" * 64, total=5000, index=np.arange(256), rows=floats(256, 32, 32, 3)
        ),
        "25 MB support images": messages.PutSupport(
            version=1, step=0, kernel=0, total=512, start=0, images=floats(512, 64, 64, 3)
        ),
    }


def _parts(message: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The scalars and the arrays of a message, by name."""
    fields = {f.name: getattr(message, f.name) for f in dataclasses.fields(message)}
    arrays = {name: value for name, value in fields.items() if isinstance(value, np.ndarray)}
    return {name: value for name, value in fields.items() if name not in arrays}, arrays


def _np_save(message: Any) -> bytes:
    buffer = io.BytesIO()
    scalars, arrays = _parts(message)
    np.save(buffer, np.frombuffer(json.dumps(scalars).encode(), np.uint8))
    for array in arrays.values():
        np.save(buffer, array)
    return buffer.getvalue()


def _np_load(payload: bytes) -> list[np.ndarray]:
    buffer, arrays = io.BytesIO(payload), []
    while buffer.tell() < len(payload):
        arrays.append(np.load(buffer, allow_pickle=False))
    return arrays


def _msgpack() -> Encoding:
    import msgpack

    def encode(message: Any) -> bytes:
        scalars, arrays = _parts(message)
        flat = {name: (a.dtype.name, a.shape, a.tobytes()) for name, a in arrays.items()}
        return msgpack.packb({**scalars, **flat})

    def decode(payload: bytes) -> dict[str, Any]:
        fields = msgpack.unpackb(payload)
        for name, value in fields.items():
            if isinstance(value, list):
                fields[name] = np.frombuffer(value[2], value[0]).reshape(value[1])
        return fields

    return encode, decode


def _safetensors() -> Encoding:
    from safetensors.numpy import load, save

    def encode(message: Any) -> bytes:
        scalars, arrays = _parts(message)
        return save(arrays, {name: str(value) for name, value in scalars.items()})

    return encode, load


def encodings() -> dict[str, Encoding]:
    found: dict[str, Encoding] = {
        "wire": (wire.encode, wire.decode),
        "crc32": (lambda m: _checksum(_parts(m)[1]), lambda payload: zlib.crc32(payload)),
        "pickle 5": (lambda m: pickle.dumps(m, protocol=5), pickle.loads),
        "np.save": (_np_save, _np_load),
        "wire and zlib 1": (
            lambda m: zlib.compress(wire.encode(m), 1),
            lambda payload: wire.decode(zlib.decompress(payload)),
        ),
    }
    for name, make in (("msgpack", _msgpack), ("safetensors", _safetensors)):
        if importlib.util.find_spec(name):
            found[name] = make()
    return found


def _checksum(arrays: dict[str, np.ndarray]) -> bytes:
    payload = max(arrays.values(), key=lambda array: array.nbytes).reshape(-1).view(np.uint8).data
    zlib.crc32(payload)
    return payload


def measure(seconds: float) -> list[dict[str, Any]]:
    """Returns a row per message and encoding; each takes up to `seconds`, or a few calls."""
    rows = []
    chosen = encodings()
    for kind, message in sample_messages().items():
        megabytes = sum(array.nbytes for array in _parts(message)[1].values()) / 1e6
        times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in chosen}
        spent = dict.fromkeys(chosen, 0.0)
        size = {}
        while left := [n for n in chosen if spent[n] < seconds or len(times[n][0]) < 4]:
            for name in left:
                encode, decode = chosen[name]
                started = time.perf_counter()
                payload = encode(message)
                encoded = time.perf_counter()
                decode(payload)
                decoded = time.perf_counter()
                size[name] = len(payload)
                times[name][0].append(encoded - started)
                times[name][1].append(decoded - encoded)
                spent[name] += decoded - started
        for name, pair in times.items():
            encode_seconds, decode_seconds = (statistics.median(side[1:]) for side in pair)
            rows.append(
                {
                    "message": kind,
                    "encoding": name,
                    "bytes": size[name],
                    "encode_us": round(1e6 * encode_seconds, 1),
                    "decode_us": round(1e6 * decode_seconds, 1),
                    "encode_mb_per_second": round(megabytes / encode_seconds),
                    "decode_mb_per_second": round(megabytes / decode_seconds),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()
    rows = measure(options.seconds)
    if options.json:
        print(json.dumps({"encodings": rows}))
        return
    for row in rows:
        print(
            f"{row['message']:24} {row['encoding']:16} {row['bytes']:>10}"
            f"  encode {row['encode_us']:>10} us {row['encode_mb_per_second']:>6} MB/s"
            f"  decode {row['decode_us']:>10} us {row['decode_mb_per_second']:>6} MB/s"
        )


if __name__ == "__main__":
    main()
