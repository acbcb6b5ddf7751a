"""Label Solve is stopped, killed and resumed: one result, bit for bit."""

import json

import pytest

from kipper.common.errors import Interrupted
from kipper.common.messages import SUPPORT_KEY, Block
from kipper.common.settings import RunSettings, SolveLabelsSettings
from kipper.launch.commands.run import what_there_is
from kipper.launch.coordinator import check_run, coordinate, load_experiment
from kipper.launch.inprocess import inprocess_links
from kipper.launch.processes.stopping import StopRequest
from kipper.server import checkpoint
from kipper.server.workdir import Workdir

TARGETS, CHUNK = 1437, 130  # training images of digits; they make 12 chunks of 119 and 120
POSITIONS = [TARGETS * i // 12 for i in range(13)]


class _Killed(BaseException):
    """Stands for SIGKILL: the run does not catch it."""


class _WatchedLink:
    """A link that calls `at_row` with the first row of each block of targets or test images."""

    def __init__(self, link, at_row):
        self.name, self.host = link.name, link.host
        self._link, self._at_row = link, at_row

    def submit(self, request):
        if isinstance(request, Block) and request.columns_key != SUPPORT_KEY:
            self._at_row(request)
        return self._link.submit(request)

    def close(self):
        self._link.close()


def _settings(workdir, **changes):
    return RunSettings.of(
        SolveLabelsSettings,
        workdir=str(workdir),
        dataset="digits",
        **{"support_size": 20, "block_support": 8, "block_target": CHUNK, **changes},
    )


def _run(settings, at_row=lambda block: None, stop=None, num_workers=1):
    check_run(settings)
    experiment = load_experiment(settings)
    links = inprocess_links(num_workers, experiment.row_sets(with_validation=False))
    links = [_WatchedLink(link, at_row) for link in links]
    return coordinate(settings, experiment, links, stop=stop)


def _outcome(workdir):
    result = json.loads((workdir / "result.json").read_text())
    distilled = (workdir / "distilled.npz").read_bytes()
    return distilled, {k: result[k] for k in ("test_accuracy", "test_loss", "loss")}


def _saved(workdir):
    return sorted(int(path.name[5:]) for path in Workdir(workdir).checkpoints.glob("step-*"))


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The outcome of an undisturbed run, and the pairs that it computes."""
    workdir = tmp_path_factory.mktemp("runs") / "quiet"
    result = _run(_settings(workdir))
    assert _saved(workdir) == [TARGETS]
    return _outcome(workdir), result.account.kernel_pairs


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_a_run_killed_several_times_has_the_same_bits(quiet, tmp_path, monkeypatch, num_workers):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN_RESUME_POINTS", 0.0)
    settings = _settings(tmp_path)
    asked = []

    def dies_at(row):
        def at_row(block):
            asked.append((block.columns_key, int(block.columns[0])))
            if block.columns[0] >= row and len(_saved(tmp_path)) > 0:
                raise _Killed

        return at_row

    for row in (300, 1000):
        with pytest.raises(_Killed):
            _run(settings, dies_at(row), num_workers=num_workers)
        assert set(_saved(tmp_path)) <= set(POSITIONS[1:-1])
    newest = _saved(tmp_path)[-1]
    asked.clear()
    _run(settings, dies_at(10**6), num_workers=num_workers)
    target = load_experiment(settings).target.key
    # The training accuracy uses all training images of digits again, in other chunks.
    assert min(row for key, row in asked if key == target and row >= newest) == newest
    assert _outcome(tmp_path) == quiet[0]


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_keeps_the_sums_so_far(quiet, tmp_path, times):
    settings, stop, total = _settings(tmp_path), StopRequest(), quiet[1]

    def asks(block):
        if block.columns[0] >= POSITIONS[5]:
            for _ in range(times):
                stop.ask()

    with pytest.raises(Interrupted, match="the same command resumes it"):
        _run(settings, asks, stop)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "interrupted"
    assert not (tmp_path / "result.json").exists()
    (kept,) = _saved(tmp_path)
    assert kept in POSITIONS[:-1]
    sums = f"those over {kept:,} are in {tmp_path}/checkpoints" if kept else "none were finished"
    assert f"target images are complete; {sums}." in what_there_is(Workdir(tmp_path), settings)
    result = _run(settings)
    assert _outcome(tmp_path) == quiet[0]
    # The support matrix is computed twice; unfinished blocks of the first run may count too.
    assert result.account.kernel_pairs >= total


def test_ctrl_c_ends_the_evaluation_too_and_keeps_all_sums(quiet, tmp_path):
    settings, stop = _settings(tmp_path), StopRequest()
    test = None

    def asks(block):
        if block.columns_key == test:
            stop.ask()

    check_run(settings)
    test = load_experiment(settings).test.key
    with pytest.raises(Interrupted):
        _run(settings, asks, stop)
    assert _saved(tmp_path) == [TARGETS]
    _run(settings)
    assert _outcome(tmp_path) == quiet[0]


def test_a_damaged_checkpoint_is_skipped(quiet, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN_RESUME_POINTS", 0.0)
    settings = _settings(tmp_path)

    def dies(block):
        if len(_saved(tmp_path)) == 2:
            raise _Killed

    with pytest.raises(_Killed):
        _run(settings, dies)
    newest = Workdir(tmp_path).checkpoints / f"step-{_saved(tmp_path)[-1]:06d}" / "state.npz"
    newest.write_bytes(newest.read_bytes()[:-50])
    _run(settings)
    assert _outcome(tmp_path) == quiet[0]


def test_status_tells_rows_and_the_time_left(tmp_path):
    seen = []

    def looks(block):
        seen.append(json.loads((tmp_path / "status.json").read_text()))

    _run(_settings(tmp_path), looks)
    last = json.loads((tmp_path / "status.json").read_text())
    assert (last["rows_of"], last["rows"]) == ("training images", last["rows_total"])
    told = [status for status in [*seen, last] if "rows" in status]
    assert {status["rows_of"] for status in told} <= {"targets", "test images", "training images"}
    assert all(0 <= status["rows"] <= status["rows_total"] <= TARGETS for status in told)
