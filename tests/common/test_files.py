"""Files are replaced atomically."""

import json
import os
import pathlib
import threading
from typing import BinaryIO

import numpy as np
import pytest

from kipper.common.files import write_atomically, write_json, write_npz, write_text


class Refused(Exception):
    """Raised by a writer before it has finished."""


def half_a_write(file: BinaryIO) -> None:
    file.write(b"half of the new con")
    file.flush()
    raise Refused


def test_text_is_written_and_replaced(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "notes.txt"
    write_text(path, "älter\n")
    write_text(path, "neu")
    assert path.read_bytes() == b"neu"
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_json_is_written(tmp_path: pathlib.Path) -> None:
    value = {"a": [1, 2.5, None], "b": {"ç": True}}
    write_json(tmp_path / "value.json", value)
    assert json.loads((tmp_path / "value.json").read_text()) == value


def test_npz_is_written_without_pickles(tmp_path: pathlib.Path) -> None:
    arrays = {"images": np.arange(6.0).reshape(2, 3).T, "empty": np.zeros((0, 4), np.int32)}
    write_npz(tmp_path / "own.name", arrays)
    with np.load(tmp_path / "own.name", allow_pickle=False) as stored:
        assert set(stored) == set(arrays)
        for name, array in arrays.items():
            assert stored[name].dtype == array.dtype
            np.testing.assert_array_equal(stored[name], array)


def test_a_writer_that_raises_leaves_the_old_content(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("old")
    with pytest.raises(Refused):
        write_atomically(path, half_a_write)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_writer_that_raises_leaves_no_new_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(Refused):
        write_atomically(tmp_path / "notes.txt", half_a_write)
    assert os.listdir(tmp_path) == []


def test_an_interrupted_writer_leaves_no_temporary_file(tmp_path: pathlib.Path) -> None:
    def interrupted(file: BinaryIO) -> None:
        file.write(b"x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "notes.txt", interrupted)
    assert os.listdir(tmp_path) == []


def test_a_value_that_is_no_json_leaves_the_old_content(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, {"array": np.zeros(3)})
    assert json.loads(path.read_text()) == [1]
    assert os.listdir(tmp_path) == ["value.json"]


def test_the_old_content_stands_until_the_new_is_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("old")
    seen = []

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        seen.append(path.read_text())

    write_atomically(path, write)
    assert seen == ["old"]
    assert path.read_text() == "new"


def test_a_folder_in_the_place_of_the_file_is_left_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "notes.txt"
    path.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        write_text(path, "new")
    assert path.is_dir()
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_an_absent_folder_is_an_os_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "absent" / "notes.txt", "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        write_text(tmp_path / "file" / "notes.txt", "new")
    assert os.listdir(tmp_path) == ["file"]


def test_a_reader_never_sees_half_a_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "value.json"
    contents = ["a" * 200_000, "b" * 200_000]
    write_text(path, contents[0])
    written = threading.Event()

    def rewrite() -> None:
        for turn in range(20):
            write_text(path, contents[turn % 2])
        written.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    seen = {path.read_text()}
    while not written.is_set():
        seen.add(path.read_text())
    writer.join()
    assert seen <= set(contents)
