"""The file where workers learn the coordinator's address."""

import pathlib

import pytest

from kipper.common.errors import UserError
from kipper.launch.cluster.meeting_point import Launch, MeetingPoint, read_launch


def test_from_waiting_to_over(tmp_path: pathlib.Path) -> None:
    coordinator = MeetingPoint(str(tmp_path), "12")
    worker = MeetingPoint(str(tmp_path), "12")
    assert (worker.address(), worker.is_over()) == (None, False)  # not written yet
    coordinator.open("13")
    assert (worker.address(), worker.is_over()) == (None, False)
    coordinator.arrive("node1:7070")
    assert (worker.address(), worker.is_over()) == ("node1:7070", False)
    coordinator.arrive("node2:7071")
    assert worker.address() == "node2:7071"
    assert read_launch(tmp_path) == Launch("12", "13", "node2:7071")
    coordinator.close()
    assert (worker.address(), worker.is_over()) == (None, True)
    launch = read_launch(tmp_path)
    assert launch is not None
    assert launch.is_over


def test_workers_of_an_earlier_launch_go_home(tmp_path: pathlib.Path) -> None:
    earlier, later = (MeetingPoint(str(tmp_path), launch) for launch in ("1", "2"))
    earlier.open("3")
    earlier.arrive("node1:7070")
    earlier.close()
    later.open("4")
    assert not later.is_over()
    assert earlier.is_over()
    later.arrive("node2:7070")
    assert earlier.address() is None
    assert later.address() == "node2:7070"


@pytest.mark.parametrize(
    "content",
    [
        '{"launch": "1"',
        "[]",
        "7",
        "{}",
        '{"launch": "1", "workers": "2", "coordinator": 5}',
        '{"launch": "34333973f01df963", "coordinator": "n1:33129"}',  # of earlier versions
    ],
)
def test_another_file_is_no_news(tmp_path: pathlib.Path, content: str) -> None:
    (tmp_path / "coordinator.json").write_text(content)
    point = MeetingPoint(str(tmp_path), "1")
    assert (point.address(), point.is_over()) == (None, False)
    assert read_launch(tmp_path) is None


def test_a_requeued_coordinator_of_an_earlier_launch_leaves_the_later_one_alone(
    tmp_path: pathlib.Path,
) -> None:
    earlier, later = (MeetingPoint(str(tmp_path), launch) for launch in ("1", "2"))
    earlier.open("3")
    later.open("4")
    later.arrive("node2:7070")
    with pytest.raises(UserError, match="Another launch uses"):
        earlier.arrive("node1:7070")
    earlier.close()
    assert (later.address(), later.is_over()) == ("node2:7070", False)
