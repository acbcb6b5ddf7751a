"""The file where workers learn the coordinator's address."""

import pytest

from kipper.common.errors import UserError
from kipper.launch.cluster.meeting_point import MeetingPoint


def test_from_waiting_to_over(tmp_path):
    coordinator = MeetingPoint(str(tmp_path), "launch 1")
    worker = MeetingPoint(str(tmp_path), "launch 1")
    assert (worker.address(), worker.is_over()) == (None, False)  # not written yet
    coordinator.open()
    assert (worker.address(), worker.is_over()) == (None, False)
    coordinator.arrive("node1:7070")
    assert (worker.address(), worker.is_over()) == ("node1:7070", False)
    coordinator.arrive("node2:7071")
    assert worker.address() == "node2:7071"
    coordinator.close()
    assert (worker.address(), worker.is_over()) == (None, True)


def test_workers_of_an_earlier_launch_go_home(tmp_path):
    earlier, later = (MeetingPoint(str(tmp_path), launch) for launch in ("1", "2"))
    earlier.arrive("node1:7070")
    earlier.close()
    later.open()
    assert not later.is_over()
    assert earlier.is_over()
    later.arrive("node2:7070")
    assert earlier.address() is None
    assert later.address() == "node2:7070"


def test_half_a_file_is_no_news(tmp_path):
    (tmp_path / "coordinator.json").write_text('{"launch": "1"')
    point = MeetingPoint(str(tmp_path), "1")
    assert (point.address(), point.is_over()) == (None, False)


@pytest.mark.parametrize("content", ["[]", "7", "{}", '{"launch": "1", "coordinator": 5}'])
def test_another_file_is_no_news(tmp_path, content):
    (tmp_path / "coordinator.json").write_text(content)
    point = MeetingPoint(str(tmp_path), "1")
    assert (point.address(), point.is_over()) == (None, False)


def test_a_requeued_coordinator_of_an_earlier_launch_leaves_the_later_one_alone(tmp_path):
    earlier, later = (MeetingPoint(str(tmp_path), launch) for launch in ("1", "2"))
    earlier.open()
    later.open()
    later.arrive("node2:7070")
    with pytest.raises(UserError, match="A later launch uses"):
        earlier.arrive("node1:7070")
    earlier.close()
    assert (later.address(), later.is_over()) == ("node2:7070", False)
