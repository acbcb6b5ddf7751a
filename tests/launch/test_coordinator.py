"""When a coordinator stops after a request."""

import contextlib
import json

import pytest

from kipper.common.errors import Interrupted, UserError
from kipper.common.messages import Block
from kipper.common.settings import DistillSettings, RunSettings
from kipper.launch.coordinator import check_run, check_settings, coordinate, load_experiment
from kipper.launch.inprocess import inprocess_links
from kipper.launch.link.certificates import make_certificates
from kipper.launch.processes.stopping import StopRequest
from kipper.server.workdir import Workdir
from kipper.workers import cuda_library

pytestmark = pytest.mark.processes

FEW = {"dataset": "digits", "test_limit": 100, "block_target": 100}


class _AskingLink:
    """A link that asks to stop when the given step's first block passes."""

    def __init__(self, link, version, times, stop):
        self.name, self.host, self._link = link.name, link.host, link
        self._version, self._times, self._stop = version, times, stop

    def submit(self, request):
        if isinstance(request, Block) and request.version == self._version:
            for _ in range(self._times):
                self._stop.ask()
            self._times = 0
        return self._link.submit(request)

    def close(self):
        self._link.close()


def _run(settings, version, times):
    """The newest checkpoint of a run that is asked to stop while a step is under way."""
    check_run(settings)
    experiment, stop = load_experiment(settings), StopRequest()
    links = inprocess_links(1, experiment.row_sets(with_validation=True))
    links = [_AskingLink(link, version, times, stop) for link in links]
    with pytest.raises(Interrupted, match="the same command resumes it"):
        coordinate(settings, experiment, links, stop=stop)
    workdir = Workdir(settings.execution.workdir)
    assert json.loads(workdir.status.read_text())["state"] == "interrupted"
    assert workdir.report.exists() == (times == 1)  # there is no time for it at the second request
    return max((int(path.name[5:]) for path in workdir.checkpoints.glob("step-*")), default=None)


@pytest.mark.parametrize(("times", "newest"), [(1, 5), (2, 4)])
def test_once_ends_after_the_step_and_twice_at_once(tmp_path, times, newest):
    settings = RunSettings.of(DistillSettings, workdir=str(tmp_path), steps=100, **FEW)
    assert _run(settings, 5, times) == newest  # support images of step k are version k + 1


def test_only_runs_with_workers_here_need_the_engine_here(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda_library, "nvidia_gpu_visible", lambda: False)
    given = {"workdir": str(tmp_path), "architecture": "convnet", "engine": "banded_cuda", **FEW}
    certificates = str(tmp_path / "certificates")
    make_certificates(certificates)
    joined = {"port": 7000, "transport": "grpc_tls", "certificates": certificates}
    elsewhere = {"num_workers": 0, **joined}, {"launch": "ray", "ray_address": "host:1"}
    for where in elsewhere:
        check_settings(RunSettings.of(DistillSettings, **given, **where))
    for where in ({}, {"launch": "ray"}):
        with pytest.raises(UserError, match="sees no GPU of NVIDIA"):
            check_settings(RunSettings.of(DistillSettings, **given, **where))
    with pytest.raises(UserError, match="networks only, not 'fc1'"):
        check_settings(
            RunSettings.of(DistillSettings, **{**given, "architecture": "fc1"}, **elsewhere[0])
        )


def test_a_run_that_waits_for_workers_ends_at_once(tmp_path):
    certificates = str(tmp_path / "certificates")
    make_certificates(certificates)
    settings = RunSettings.of(
        DistillSettings,
        workdir=str(tmp_path / "run"),
        steps=100,
        num_workers=0,
        port=1,
        transport="grpc_tls",
        certificates=certificates,
        **FEW,
    )
    check_run(settings)
    with pytest.raises(Interrupted):
        coordinate(
            settings,
            load_experiment(settings),
            (),
            stop=_AskedLater(),
            joining=lambda pool: contextlib.nullcontext(),
        )


class _AskedLater(StopRequest):
    """Asked after the step has begun."""

    _looks = 0

    def is_asked(self):
        self._looks += 1
        return self._looks > 1
