"""The memory that a process may use, under control groups."""

import pathlib

import pytest

from kipper.common import memory


@pytest.fixture
def groups(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty tree of control groups; `cgroup` in it is read as /proc/self/cgroup."""
    read_text = pathlib.Path.read_text

    def read(path: pathlib.Path, *args: object) -> str:
        membership = path == pathlib.Path("/proc/self/cgroup")
        return read_text(tmp_path / "cgroup" if membership else path)

    monkeypatch.setattr(memory, "_CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(pathlib.Path, "read_text", read)
    return tmp_path


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def test_without_groups_it_is_the_machine_s(groups: pathlib.Path) -> None:
    assert memory.usable_memory() > 2**28


@pytest.mark.parametrize(
    ("membership", "file", "around"),
    [
        ("0::/slurm/job_7/step_0", "slurm/job_7/memory.max", "slurm/job_7/step_0/memory.max"),
        ("0::/not/visible/in/a/container", "memory.max", "other/memory.max"),
        ("5:cpu,cpuacct:/a\n4:memory:/b", "memory/b/memory.limit_in_bytes", "a/memory.max"),
    ],
)
def test_the_lowest_limit_of_the_groups_around_counts(
    groups: pathlib.Path, membership: str, file: str, around: str
) -> None:
    write(groups / "cgroup", membership)
    write(groups / around, "max")
    write(groups / file, str(2**28))
    assert memory.usable_memory() == 2**28
