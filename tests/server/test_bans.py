"""Bans outlive the coordinator, and a damaged file of bans stops no run."""

import pathlib

import pytest

from kipper.server.bans import Ban, Bans


def test_a_ban_outlives_the_coordinator(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "bans.json"
    Bans(path).add("liar", Ban("its answer differs", "far away"))
    again = Bans(path)
    assert again.workers == {"liar"}
    assert again.why("liar") == "its answer differs"
    assert again.why("honest") is None
    path.unlink()
    assert Bans(path).why("liar") is None


def test_a_worker_is_known_by_its_own_certificate_whatever_its_name(tmp_path: pathlib.Path) -> None:
    bans = Bans(tmp_path / "bans.json")
    bans.add("liar", Ban("it lied", "far away", "ab12"))
    bans.add("other", Ban("it lied too"))
    again = Bans(tmp_path / "bans.json")
    assert again.why("reformed", "ab12") == "it lied"
    assert again.why("reformed", "cd34") is None
    assert again.why("reformed", "") is None


@pytest.mark.parametrize("content", [b"", b"[]", b'{"liar": 3}', b'{"liar": {"x": ""}}', b"\xff"])
def test_a_damaged_file_is_set_aside_with_a_warning(
    tmp_path: pathlib.Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bans.json"
    path.write_bytes(content)
    assert Bans(path).workers == set()
    assert "bans.json is damaged" in caplog.text
    assert not path.exists()
    assert (tmp_path / "bans.json.damaged").read_bytes() == content


def test_a_changed_letter_is_noticed(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bans.json"
    Bans(path).add("liar", Ban("it lied"))
    path.write_text(path.read_text().replace('"liar"', '"lier"'))
    assert Bans(path).workers == set()
    assert "is damaged" in caplog.text


def test_without_a_file_bans_last_as_long_as_the_pool() -> None:
    bans = Bans()
    bans.add("liar", Ban("it lied"))
    assert bans.why("liar") == "it lied"
