"""Reads damaged and hostile data sets: `python dataset_fuzz.py EXAMPLES FOLDER`.

A program of its own, because what it looks for would end a test's process: numpy or scipy reading
memory that a file names, or taking all there is.
"""

import gzip
import io
import pathlib
import resource
import struct
import sys
from collections.abc import Callable

import common_fixtures
import numpy as np
import pickled_cifar
import scipy.io
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from kipper.common.datasets import load_dataset
from kipper.common.datasets.cifar_pickle import read_pickle
from kipper.common.errors import UserError
from kipper.server.distilled_set import load_distilled, load_recipe

EXAMPLES = int(sys.argv[1])
# Beyond what the imports take. A file here has at most 50 kB.
MOST_MEGABYTES = 300

fuzzed = settings(
    deadline=None,
    max_examples=EXAMPLES,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

GENUINE = pickled_cifar.genuine()
CUT = [
    pickled_cifar.instructions(pickled)
    for name, pickled in GENUINE.items()
    if name != "Python 2, protocol 0"
]
# Not in a genuine pickle: other instructions, sizes, types and states.
HOSTILE = [
    *(bytes([code]) for code in range(256)),
    *(b"\x8e" + struct.pack("<Q", size) for size in (0, 2**31, 2**40, 2**64 - 1)),
    *(b"r" + struct.pack("<I", place) for place in (0, 2**20, 2**32 - 1)),
    *(b"J" + struct.pack("<i", number) for number in (0, -1, 1, 3, 63, 2**31 - 1, -(2**31))),
    *(
        b"\x8c" + bytes([len(code)]) + code
        for code in (b"O8", b"V8", b"S8", b"u1", b"<", b">", b"|")
    ),
    *(b"\x8a\x09" + struct.pack("<q", number) + b"\x00" for number in (2**40, -1)),
    *(b"c" + name + b"\n" for name in (b"numpy\ndtype", b"numpy\nndarray", b"os\nsystem")),
    b"(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x01tb",
    b"\x85" * 20_000,
    b"]" * 20_000,
    b"(" * 20_000,
    b"\x93R",
    b"b",
    b"R",
]
edits = st.tuples(
    st.sampled_from(["replace", "insert", "remove", "repeat", "swap"]),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.sampled_from(HOSTILE) | st.sampled_from([each for cut in CUT for each in cut]),
)
flips = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=6)


def edited(parts: list[bytes], changes: list[tuple[str, int, int, bytes]]) -> bytes:
    parts = list(parts)
    for kind, first, second, other in changes:
        if not parts:
            break
        # Most instructions of a batch are one long text or a list; the ends have the rest.
        at, to = first % len(parts), second % len(parts)
        if kind == "replace":
            parts[at] = other
        elif kind == "insert":
            parts.insert(at, other)
        elif kind == "remove":
            del parts[at]
        elif kind == "repeat":
            parts[at:at] = parts[at : at + 1 + to % 8]
        else:
            parts[at], parts[to] = parts[to], parts[at]
    return b"".join(parts)


def flipped(content: bytes, changes: list[tuple[int, int]], keep: float) -> bytes:
    """Some bytes changed, and the end cut off."""
    changed = bytearray(content)
    for at, by in changes:
        # Half of the changes within the first bytes, where headers are.
        changed[(at // 2) % len(changed) if at % 2 else (at // 2) % min(len(changed), 400)] ^= by
    return bytes(changed[: max(1, round(keep * len(changed)))])


def survives(read: Callable[[], object]) -> None:
    """Reads, or refuses in one short line."""
    refusal = ""
    try:
        read()
    except UserError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert len(refusal) < 1000


FOLDER = pathlib.Path(sys.argv[2])
keeps = st.just(1.0) | st.floats(0, 1)


def read_cifar(content: bytes) -> None:
    path = FOLDER / "cifar10" / "test_batch"
    path.write_bytes(content)
    survives(lambda: read_pickle(path, ("data", "labels")))
    survives(lambda: load_dataset("cifar10", str(FOLDER)))


@fuzzed
@given(st.sampled_from(CUT), st.lists(edits, min_size=1, max_size=5))
def pickles_put_together_anew(
    parts: list[bytes], changes: list[tuple[str, int, int, bytes]]
) -> None:
    read_cifar(edited(parts, changes))


@fuzzed
@given(st.sampled_from([*GENUINE.values()]), flips, keeps)
def damaged_pickles(content: bytes, changes: list[tuple[int, int]], keep: float) -> None:
    read_cifar(flipped(content, changes, keep))


@fuzzed
@given(
    st.sampled_from(["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]),
    flips,
    keeps,
    st.booleans(),
)
def damaged_idx(name: str, changes: list[tuple[int, int]], keep: float, outside: bool) -> None:
    path = FOLDER / "mnist" / name
    sound = path.read_bytes()
    damaged = (
        flipped(sound, changes, keep)
        if outside
        else gzip.compress(flipped(gzip.decompress(sound), changes, keep))
    )
    path.write_bytes(damaged)
    survives(lambda: load_dataset("mnist", str(FOLDER)))
    path.write_bytes(sound)


@fuzzed
@given(st.booleans(), flips, keeps)
def damaged_mat(compressed: bool, changes: list[tuple[int, int]], keep: float) -> None:
    file = io.BytesIO()
    arrays = {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1], [2]])}
    scipy.io.savemat(file, arrays, do_compression=compressed)
    (FOLDER / "svhn_cropped" / "test_32x32.mat").write_bytes(
        flipped(file.getvalue(), changes, keep)
    )
    survives(lambda: load_dataset("svhn_cropped", str(FOLDER)))


@fuzzed
@given(st.booleans(), flips, keeps)
def damaged_npz(compressed: bool, changes: list[tuple[int, int]], keep: float) -> None:
    file = io.BytesIO()
    arrays = {**common_fixtures.npz_arrays(), "images": np.zeros((2, 3, 3, 1)), "labels": np.eye(2)}
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    path = FOLDER / "own.npz"
    path.write_bytes(flipped(file.getvalue(), changes, keep))
    survives(lambda: load_dataset(f"npz:{path}", None))
    survives(lambda: load_distilled(path))
    survives(lambda: load_recipe(path))


@fuzzed
@given(st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"]), flips, keeps)
def damaged_images(image_format: str, changes: list[tuple[int, int]], keep: float) -> None:
    file = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(file, image_format)
    (FOLDER / "images" / "a" / "1.png").write_bytes(flipped(file.getvalue(), changes, keep))
    survives(lambda: load_dataset(f"folder:{FOLDER / 'images'}@8", None))


def main() -> None:
    common_fixtures.write_cifar10(FOLDER / "cifar10", pickled=True)
    common_fixtures.write_mnist(FOLDER / "mnist", gzipped=True)
    common_fixtures.write_svhn(FOLDER / "svhn_cropped")
    for label in "ab":
        (FOLDER / "images" / label).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (9, 7)).save(FOLDER / "images" / label / f"{number}.png")
    for pickled in GENUINE.values():
        path = FOLDER / "genuine"
        path.write_bytes(pickled)
        assert read_pickle(path, ("data", "labels"))["data"].shape == (3, 3072)
    Image.init()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for attack in (
        pickles_put_together_anew,
        damaged_pickles,
        damaged_idx,
        damaged_mat,
        damaged_npz,
        damaged_images,
    ):
        attack()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"{attack.__name__}: {grown:.0f} MiB", flush=True)
        assert grown < MOST_MEGABYTES


if __name__ == "__main__":
    main()
