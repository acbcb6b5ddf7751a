"""Pickles of CIFAR's batches, as Python 2 and 3 write them."""

import io
import pickle
import pickletools
from typing import ClassVar

import numpy as np


class _Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 did, as text without an encoding."""

    def save_python2_str(self, value: bytes) -> None:
        if self.proto == 0:
            self.write(b"S" + repr(value)[1:].encode() + b"\n")
        elif len(value) < 256:
            self.write(b"U" + bytes([len(value)]) + value)
        else:
            self.write(b"T" + len(value).to_bytes(4, "little") + value)
        self.memoize(value)

    dispatch: ClassVar[dict] = {**pickle._Pickler.dispatch, bytes: save_python2_str}


def genuine(count: int = 3) -> dict[str, bytes]:
    """A batch of `count` images, by the Python and the protocol that wrote it."""
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (count, 3072), np.uint8)
    labels = rng.integers(0, 10, count)
    batch = {
        b"batch_label": b"testing batch 1 of 1\xe9",
        b"labels": labels.tolist(),
        b"data": pixels,
        b"filenames": [b"a.png", b"b.png", b"c.png"],
    }
    others = {
        "data": np.asfortranarray(pixels),
        "labels": labels.astype(">i4"),
        "numbers": [*labels],
        "more": (1.5, None, True),
    }
    made = {}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        made[f"Python 3, protocol {protocol}"] = pickle.dumps(batch, protocol)
        made[f"Python 3, arrays, protocol {protocol}"] = pickle.dumps(others, protocol)
    for protocol in range(3):
        file = io.BytesIO()
        _Python2Pickler(file, protocol).dump(batch)
        made[f"Python 2, protocol {protocol}"] = file.getvalue()
    return made


def instructions(pickled: bytes) -> list[bytes]:
    """The instructions of a pickle, each with its argument; pickletools cannot read Python 2's text
    of protocol 0."""
    starts = [position for _, _, position in pickletools.genops(pickled)]
    return [pickled[a:b] for a, b in zip(starts, [*starts[1:], len(pickled)], strict=True)]
