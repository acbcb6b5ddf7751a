"""CIFAR's pickles: those of Python 2 and 3 are read, and no others have any effect."""

import pathlib
import pickle
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pickled_cifar
import pytest

from kipper.common.datasets import cifar_pickle
from kipper.common.datasets.cifar_pickle import read_pickle
from kipper.common.errors import UserError

GENUINE = pickled_cifar.genuine()


def read(folder: pathlib.Path, pickled: bytes) -> dict[str, object]:
    path = folder / "batch"
    path.write_bytes(pickled)
    return read_pickle(path, ("data", "labels"))


@pytest.mark.parametrize("written_by", GENUINE)
def test_values_are_those_that_pickle_reads(tmp_path: pathlib.Path, written_by: str) -> None:
    found = read(tmp_path, GENUINE[written_by])
    expected = pickle.loads(GENUINE[written_by], encoding="latin1")
    expected = {
        key.decode("latin1") if isinstance(key, bytes) else key: entry
        for key, entry in expected.items()
    }
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found["data"], expected["data"])
    assert found["data"].dtype == np.uint8
    np.testing.assert_array_equal(found["labels"], expected["labels"])
    for key in expected.keys() - {"data", "labels"}:
        assert found[key] == expected[key]


class _Made:
    """Pickled as a call with a state."""

    def __init__(self, function: object, arguments: tuple, state: tuple) -> None:
        self.reduced = function, arguments, state

    def __reduce__(self) -> tuple:
        return self.reduced


ADDRESS = struct.pack("<Q", 0x4142434445464748)


def array_of_addresses(flags: int) -> bytes:
    """A dtype whose state says that its objects are counted, but not pickled as a list."""
    dtype = _Made(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, flags))
    reconstruct = np.zeros(0).__reduce__()[0]
    state = (1, (4,), dtype, False, ADDRESS * 4)
    labels = _Made(reconstruct, (np.ndarray, (0,), b"b"), state)
    return pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": labels}, 2)


def test_bytes_do_not_become_addresses(tmp_path: pathlib.Path) -> None:
    hostile = array_of_addresses(0x01)
    program = "import pickle, sys; pickle.loads(sys.stdin.buffer.read(), encoding='latin1')"
    ended = subprocess.run([sys.executable, "-c", program], input=hostile, capture_output=True)
    assert ended.returncode < 0, "the file would do nothing anyway"
    with pytest.raises(UserError, match="batch cannot be read as a pickled dictionary: an array"):
        read(tmp_path, hostile)


STATE = b"(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK"
DTYPE = b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02u1\x85R" + STATE
HOSTILE = {
    "state with flags": DTYPE + b"\x3ftb.",
    "fields": b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02V8\x85R.",
    "deep key": b"})" + b"\x85" * 100_000 + b"Ns.",
    "distant place in the memo": b"Nr\xff\xff\xff\xff0.",
    "huge text": b"\x8e" + struct.pack("<Q", 2**40) + b"abc.",
    "negative shape": b"\x8c\x05numpy\x8c\x07ndarray\x93J\xff\xff\xff\xff\x85R.",
    "object": b"\x8c\x05numpy\x8c\x07ndarray\x93)\x81.",
    "state of a list": b"]}b.",
    "state of a function": b"\x8c\x05numpy\x8c\x07ndarray\x93}b.",
    "extension": b"\x82\x01.",
    "old object": b"(ios\nsystem\n.",
    "persistent": b"Pname\n.",
    "buffer": b"\x97.",
    "no value": b".",
    "no end": b"}",
    "no mark": b"e.",
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_pickles_are_refused_in_little_memory(tmp_path: pathlib.Path, attack: str) -> None:
    tracemalloc.start()
    with pytest.raises(UserError) as refused:
        read(tmp_path, b"\x80\x04" + HOSTILE[attack])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "\n" not in str(refused.value)
    assert peak < 20 * 2**20


def test_the_number_of_instructions_is_bounded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar_pickle, "_MOST_INSTRUCTIONS", 1000)
    with pytest.raises(UserError, match="more than 1,000 instructions"):
        read(tmp_path, b"(" * 1000 + b".")


def test_one_text_does_not_become_many_arrays(tmp_path: pathlib.Path) -> None:
    text = b"\x8d" + struct.pack("<Q", 10**6) + b"x" * 10**6 + b"\x940"  # memo 0
    encode = b"\x8c\x07_codecs\x8c\x06encode\x93\x940"  # memo 1
    latin1 = b"\x8c\x06latin1\x940"  # memo 2
    call = b"h\x01h\x00h\x02\x86R"
    pickled = b"\x80\x04" + text + encode + latin1 + b"](" + call * 500 + b"e."
    tracemalloc.start()
    with pytest.raises(UserError, match="same text"):
        read(tmp_path, pickled)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * 2**20
