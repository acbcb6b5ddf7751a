"""Open disputes outlive a coordinator that is killed."""

import pathlib

import pytest

from kipper.server.disputes import OpenDisputes

DISPUTES = [[["a"], ["b"]], [["a", "c"], ["d"]]]


def test_they_are_kept_while_they_are_open(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "disputes.json"
    kept = OpenDisputes(path)
    assert kept.left == []
    kept.now(DISPUTES)
    assert OpenDisputes(path).left == DISPUTES
    kept.now([])
    assert not path.exists()


@pytest.mark.parametrize("content", [b"{}", b"[1]", b'{"disputes": [["a"]]}', b"\xff"])
def test_a_damaged_file_is_set_aside(
    tmp_path: pathlib.Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "disputes.json"
    path.write_bytes(content)
    assert OpenDisputes(path).left == []
    assert "disputes.json is damaged" in caplog.text
    assert path.with_name("disputes.json.damaged").read_bytes() == content


def test_without_a_file_nothing_is_kept() -> None:
    OpenDisputes().now(DISPUTES)
