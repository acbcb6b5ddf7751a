"""JSON objects with checksums: changes are noticed, layouts and earlier versions are not."""

import json
import pathlib

import pytest

from kipper.common.sealed import is_number, parse_object, read_object, sealed, write_object

RECORD = {"step": 28, "loss": 0.125, "name": "ü", "nested": {"a": [1, 2.5, None]}, "on": True}


def test_a_record_comes_back_without_its_checksum(tmp_path: pathlib.Path) -> None:
    write_object(tmp_path / "record.json", RECORD)
    assert read_object(tmp_path / "record.json") == RECORD
    assert "checksum" in json.loads((tmp_path / "record.json").read_text())


def test_the_layout_does_not_matter() -> None:
    assert parse_object(json.dumps(sealed(RECORD), indent=4, ensure_ascii=False)) == RECORD


def test_an_object_without_a_checksum_is_taken_as_it_is() -> None:
    assert parse_object(json.dumps(RECORD)) == RECORD


def test_every_flipped_bit_is_noticed_or_changes_nothing() -> None:
    text = json.dumps(sealed(RECORD)).encode()
    noticed = 0
    for at in range(len(text)):
        for bit in range(8):
            damaged = bytearray(text)
            damaged[at] ^= 1 << bit
            try:
                assert parse_object(bytes(damaged)) == RECORD
            except ValueError:
                noticed += 1
    assert noticed > 7.5 * len(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[]",
        "null",
        '"text"',
        "{",
        b"\xff\xfe\x00",
        b'{"a": "\xff"}',
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a": ' + "9" * 5000 + "x",
    ],
)
def test_what_is_no_object_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"it is|nested"):
        parse_object(text)


@pytest.mark.parametrize("value", [True, None, "1", [1], 10**30, float("nan"), float("inf")])
def test_these_are_no_numbers_to_compute_with(value: object) -> None:
    assert not is_number(value)


def test_these_are() -> None:
    assert all(map(is_number, (0, -3, 2**62, 0.5, -1e300)))


def test_a_pipe_is_not_waited_for(tmp_path: pathlib.Path) -> None:
    import os

    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(OSError, match="not a file"):
        read_object(tmp_path / "config.json")
