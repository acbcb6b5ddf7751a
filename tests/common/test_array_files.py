"""Arrays in .npz files: no flipped bit changes the values that are read."""

import pathlib

import numpy as np

from kipper.common.array_files import UNREADABLE, read_npz
from kipper.common.files import write_npz


def test_every_flipped_bit_is_refused_or_harmless(tmp_path: pathlib.Path) -> None:
    arrays = {"images": np.arange(6.0).reshape(2, 3), "names": np.array(["a", "b"])}
    path = tmp_path / "arrays.npz"
    write_npz(path, arrays)
    content, refused = path.read_bytes(), 0
    for at in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            found = read_npz(path)
        except UNREADABLE:
            refused += 1
            continue
        assert {name: (each.dtype, each.tolist()) for name, each in found.items()} == {
            name: (each.dtype, each.tolist()) for name, each in arrays.items()
        }
    assert refused > 4 * len(content)
